const browsers = new Map();
for (const bar of document.querySelectorAll(".filters")) {
  const body = document.getElementById(bar.dataset.for).tBodies[0];
  const inOrder = [...body.rows];
  const choices = [...bar.querySelectorAll("select[data-key]")];
  const sort = bar.querySelector("select.sort");
  const words = bar.querySelector("input");
  const apply = () => {
    const wanted = words.value.toLowerCase();
    let left = 0;
    for (const row of inOrder) {
      const fits = choices.every(
        (choice) => !choice.value || row.dataset[choice.dataset.key] === choice.value);
      row.hidden = !(fits && row.textContent.toLowerCase().includes(wanted));
      left += !row.hidden;
    }
    bar.querySelector(".count").textContent = `${left} of ${inOrder.length} shown`;
  };
  const arrange = () => {
    const sign = { up: 1, down: -1 }[sort.value];
    const sure = (row) => Number(row.dataset.sure || -1);
    body.append(...(sign ? [...inOrder].sort((a, b) => sign * (sure(a) - sure(b))) : inOrder));
  };
  bar.hidden = false;
  bar.addEventListener("input", apply);
  if (sort) sort.addEventListener("input", arrange);
  bar.querySelector("button").addEventListener("click", () => {
    for (const choice of choices) choice.value = "";
    words.value = "";
    apply();
    words.focus();
  });
  browsers.set(bar.dataset.for, (gold, fault) => {
    words.value = "";
    for (const choice of choices) {
      choice.value = { gold, fault }[choice.dataset.key] ?? "";
    }
    apply();
    bar.scrollIntoView({ block: "start" });
    choices[0].focus({ preventScroll: true });
  });
  apply();
}
// A cell of mistakes opens the browser at these mistakes.
for (const cell of document.querySelectorAll(".cell[data-gold]")) {
  const show = browsers.get(cell.dataset.opens);
  if (!show) continue;
  const button = document.createElement("button");
  button.append(...cell.childNodes);
  button.title = `Show answers ${cell.dataset.fault} where gold says ${cell.dataset.gold}`;
  button.addEventListener("click", () => show(cell.dataset.gold, cell.dataset.fault));
  cell.append(button);
}
addEventListener("beforeprint", () => {
  for (const folded of document.querySelectorAll("details.card")) folded.open = true;
});
