// The conversation: a table and the same as JSON; `props.value` holds {"turns": [...]}.
const root = element.querySelector(".turns");
const find = (name) => root.querySelector(name);
const rows = find(".rows"), json = find("#turns-json"), note = find(".note"), form = find("template");
const file = find("#turns-file"), most = Number(root.dataset.most);

function tell(text, failed) {
  note.textContent = text;
  note.classList.toggle("failed", Boolean(failed));
}

function add(turn, focus) {
  const row = form.content.firstElementChild.cloneNode(true);
  row.querySelector(".speaker").value = turn.speaker || "";
  row.querySelector(".says").value = turn.text || "";
  const emotion = row.querySelector(".emotion");
  emotion.value = turn.emotion || "";
  if (turn.emotion && emotion.value !== turn.emotion) {
    emotion.add(new Option(turn.emotion, turn.emotion, true, true));
  }
  if (turn.clip) row.dataset.clip = turn.clip;
  row.querySelector(".drop").addEventListener("click", () => {
    const next = row.nextElementSibling || row.previousElementSibling;
    row.remove();
    changed();
    (next ? next.querySelector(".drop") : find(".add")).focus();
  });
  rows.append(row);
  if (focus) row.querySelector(".speaker").focus();
}

function number() {
  [...rows.children].forEach((row, place) => {
    const name = "of utterance " + (place + 1);
    row.querySelector(".no").textContent = place + 1;
    row.querySelector(".speaker").setAttribute("aria-label", "Speaker " + name);
    row.querySelector(".says").setAttribute("aria-label", "Words " + name);
    row.querySelector(".emotion").setAttribute("aria-label", "Emotion " + name);
    row.querySelector(".drop").setAttribute("aria-label", "Remove utterance " + (place + 1));
    const says = row.querySelector(".says");
    says.style.height = "auto";
    if (says.scrollHeight) says.style.height = says.scrollHeight + 2 + "px";
  });
  const speakers = new Set([...rows.querySelectorAll(".speaker")].map((field) => field.value));
  find("datalist").replaceChildren(...[...speakers].filter(Boolean).map((name) => new Option(name)));
}

// Every row, so that the answers' numbers are the table's; one without words is told by the
// server. Only empty rows at the end, which await words, are no turns.
function turns() {
  const list = [...rows.children].map((row) => {
    const turn = { speaker: row.querySelector(".speaker").value, text: row.querySelector(".says").value };
    const emotion = row.querySelector(".emotion").value;
    if (!turn.speaker.trim()) delete turn.speaker;
    if (emotion) turn.emotion = emotion;
    if (row.dataset.clip) turn.clip = row.dataset.clip;
    return turn;
  });
  while (list.length && !Object.values(list.at(-1)).some((value) => value.trim())) list.pop();
  return list;
}

function changed(fromJson) {
  number();
  find(".add").disabled = rows.children.length >= most;
  const value = { turns: turns() };
  if (!fromJson) {
    json.value = JSON.stringify(value, null, 2);
    tell("");
  }
  props.value = value;
}

function fill(found) {
  const list = Array.isArray(found) ? found : found && (found.turns || found.conversation);
  if (!Array.isArray(list)) throw new Error('expected {"turns": [{"speaker", "text"}, ...]}');
  if (list.length > most) throw new Error("at most " + most + " utterances are taken here");
  if (!list.every((turn) => turn && typeof turn.text === "string")) {
    throw new Error('every turn needs a text field "text"');
  }
  rows.replaceChildren();
  list.forEach((turn) => add(turn));
}

function read(text) {
  try {
    fill(JSON.parse(text));
    changed(true);
    tell("");
  } catch (error) {
    props.value = { turns: [] };
    tell("This is not a conversation in JSON: " + error.message, true);
  }
}

rows.addEventListener("input", () => changed());
json.addEventListener("input", () => read(json.value));
find(".add").addEventListener("click", () => {
  add({}, true);
  changed();
});
find(".empty").addEventListener("click", () => {
  rows.replaceChildren();
  add({}, true);
  changed();
});
file.addEventListener("change", async () => {
  if (file.files.length) {
    json.value = await file.files[0].text();
    read(json.value);
  }
  file.value = "";
});
// Heights are measured when the table is seen for the first time.
new ResizeObserver(number).observe(root);

watch("value", () => {
  if (JSON.stringify(props.value && props.value.turns) === JSON.stringify(turns())) return;
  fill(props.value);
  changed();
});
fill(props.value);
changed();
