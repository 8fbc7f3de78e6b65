// The clip: dropped, chosen or recorded; uploaded at once; played with its peak marked.
// Runs in Gradio's component with `element`, `props`, `watch` and `trigger`.
const root = element.querySelector(".clip");
const find = (name) => root.querySelector(name);
const stage = find(".stage"), video = find("video"), picture = find("img"), boxed = find("svg");
const line = find(".line"), peak = find(".peak"), file = find("input"), record = find(".record");
const remove = find(".remove"), note = find(".note"), label = find(".name");
const mostBytes = Number(root.dataset.mostBytes), mostSeconds = Number(root.dataset.mostSeconds);
let mark = null, recorder = null, taken = 0, address = null;

function tell(text, failed) {
  note.textContent = text;
  note.classList.toggle("failed", Boolean(failed));
}

function show(source, kind, name) {
  if (address) URL.revokeObjectURL(address);
  address = source && source.startsWith("blob:") ? source : null;
  video.hidden = kind !== "video";
  picture.hidden = kind !== "image";
  stage.classList.toggle("empty", !source);
  video.srcObject = null;
  video.muted = false;
  if (kind === "video") video.src = source; else video.removeAttribute("src");
  if (kind === "image") picture.src = source; else picture.removeAttribute("src");
  remove.hidden = !source;
  label.textContent = name || "";
  setMark(null);
}

// --- where clips come from -------------------------------------------------------------------

async function take(blob, name) {
  const turn = ++taken;
  const image = blob.type.startsWith("image/");
  props.value = null;
  if (blob.size > mostBytes) {
    show(null);
    return tell(name + " has " + size(blob.size) + ", and at most " + size(mostBytes) +
      " are taken here; cut or shrink it.", true);
  }
  show(URL.createObjectURL(blob), image ? "image" : "video", name);
  tell("Sending " + name + " …");
  const form = new FormData();
  form.append("file", blob, name);
  try {
    const answer = await fetch(new URL("clips", document.baseURI), { method: "POST", body: form });
    const found = await answer.json();
    if (turn !== taken) return;
    if (!answer.ok) throw new Error(found.error.message);
    props.value = { id: found.id };
    tell(name + " is ready to be read.");
    if (video.error) unplayable();
  } catch (error) {
    if (turn === taken) tell("The clip was not sent: " + error.message, true);
  }
}

function size(bytes) {
  return bytes < 1e6 ? Math.ceil(bytes / 1e3) + " kB" : (bytes / 1e6).toFixed(1) + " MB";
}

file.addEventListener("change", () => {
  if (file.files.length) take(file.files[0], file.files[0].name);
  file.value = "";
});
for (const kind of ["dragover", "dragleave", "drop"]) {
  root.addEventListener(kind, (event) => {
    event.preventDefault();
    root.classList.toggle("over", kind === "dragover");
    const dropped = kind === "drop" && event.dataTransfer.files;
    if (dropped && dropped.length) take(dropped[0], dropped[0].name);
  });
}
remove.addEventListener("click", () => {
  taken++;
  props.value = null;
  show(null);
  tell("");
  file.focus();
});

// --- recording -------------------------------------------------------------------------------

if (!navigator.mediaDevices || !window.MediaRecorder) record.hidden = true;
record.addEventListener("click", async () => {
  if (recorder) return recorder.stop();
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: true, audio: true });
  } catch (error) {
    return tell("There is no camera and microphone to record with: " + error.message, true);
  }
  show(null);
  stage.classList.remove("empty");
  video.hidden = false;
  video.muted = true;
  video.srcObject = stream;
  video.play();
  const parts = [];
  const kind = ["video/webm", "video/mp4"].find((type) => MediaRecorder.isTypeSupported(type));
  recorder = new MediaRecorder(stream, { mimeType: kind });
  recorder.addEventListener("dataavailable", (event) => parts.push(event.data));
  recorder.addEventListener("stop", () => {
    clearTimeout(limit);
    stream.getTracks().forEach((track) => track.stop());
    recorder = null;
    record.textContent = "Record";
    take(new Blob(parts, { type: kind }), "recording." + kind.split("/")[1]);
  });
  const limit = setTimeout(() => recorder && recorder.stop(), 1000 * Math.min(mostSeconds - 1, 60));
  recorder.start();
  record.textContent = "Stop recording";
  tell("Recording, with sound; at most " + Math.min(mostSeconds - 1, 60) + " seconds.");
});

// --- the peak --------------------------------------------------------------------------------

function setMark(found) {
  mark = found;
  boxed.toggleAttribute("hidden", !mark);
  line.hidden = !(mark && mark.duration);
  if (!mark) return playhead();
  boxed.setAttribute("viewBox", "0 0 " + mark.width + " " + mark.height);
  boxed.querySelectorAll("rect").forEach((rect, place) => {
    const thick = Math.max(mark.width, mark.height) / 240;
    ["x", "y", "width", "height"].forEach((key, n) => rect.setAttribute(key, mark.box[n]));
    rect.setAttribute("rx", 3 * thick);
    rect.setAttribute("stroke-width", thick * (place ? 1 : 2.4));
  });
  if (mark.duration) {
    peak.textContent = "Peak at " + mark.label;
    peak.style.setProperty("--at", mark.seconds / mark.duration);
    peak.setAttribute("aria-label", "Go to the peak frame at " + mark.label);
    if (video.paused) seek(mark.seconds);
  }
  drawn();
}

function seek(seconds) {
  // A recording does not know its length until its end was asked for.
  if (video.duration === Infinity) {
    video.addEventListener("durationchange", () => (video.currentTime = seconds), { once: true });
    video.currentTime = 1e7;
  } else {
    video.currentTime = seconds;
  }
}

function drawn() {
  const near = mark && (!mark.duration || Math.abs(video.currentTime - mark.seconds) < 0.15);
  boxed.classList.toggle("near", Boolean(near));
  playhead();
}

function playhead() {
  for (const plot of document.querySelectorAll(".faces .plot")) {
    let head = plot.querySelector(".playhead");
    if (!head) {
      head = document.createElement("span");
      head.className = "playhead";
      plot.append(head);
    }
    const start = Number(plot.dataset.start), end = Number(plot.dataset.end);
    head.hidden = !mark || !(end > start);
    head.style.left = 100 * Math.min(1, (video.currentTime - start) / (end - start)) + "%";
  }
}

peak.addEventListener("click", () => {
  video.pause();
  seek(mark.seconds);
});
for (const kind of ["seeked", "timeupdate", "pause", "loadeddata"]) video.addEventListener(kind, drawn);
video.addEventListener("play", function each() {
  drawn();
  if (!video.paused) requestAnimationFrame(each);
});
function unplayable() {
  if (props.value) tell(label.textContent + " is ready to be read, though this browser cannot play it.");
}
video.addEventListener("error", () => video.getAttribute("src") && unplayable());
document.addEventListener("click", (event) => {
  const plot = mark && mark.duration && event.target.closest(".faces .plot");
  if (!plot) return;
  const bounds = plot.getBoundingClientRect();
  const share = (event.clientX - bounds.left) / bounds.width;
  seek(Math.max(0, share * (plot.dataset.end - plot.dataset.start) + Number(plot.dataset.start)));
});

watch("mark", () => setMark(props.mark));
watch("value", () => {
  const value = props.value;
  if (!value || !value.example) return;
  taken++;
  show(new URL("examples/" + value.example, document.baseURI).href, "video", value.title);
  tell("The example is ready to be read.");
});
