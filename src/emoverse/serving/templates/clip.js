// The clip: dropped, chosen or recorded; uploaded at once; played with its peak marked.
// Runs in Gradio's component with `element`, `props`, `watch` and `trigger`.
const root = element.querySelector(".clip");
const find = (name) => root.querySelector(name);
const stage = find(".stage"), video = find("video"), picture = find("img"), boxed = find("svg");
const line = find(".line"), peak = find(".peak"), file = find("input"), record = find(".record");
const remove = find(".remove"), note = find(".note"), label = find(".name");
const mostBytes = Number(root.dataset.mostBytes), mostSeconds = Number(root.dataset.mostSeconds);
const longest = Math.min(mostSeconds - 1, 60);
let mark = null, recorder = null, asking = false, taken = 0, address = null;

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

// The clip until now is not wanted any more, nor what is sent, recorded or read of it.
function leave() {
  taken++;
  if (recorder) recorder.stop();
  trigger("clear");
}

function hold(value) {
  props.value = value;
  showOnlyAnswersOf(value);
}

async function take(blob, name) {
  leave();
  const turn = taken;
  hold(null);
  const image = blob.type.startsWith("image/");
  if (blob.size > mostBytes) {
    show(null);
    return tell(name + " has " + size(blob.size) + ", and at most " + size(mostBytes) +
      " are taken here; cut or shrink it.", true);
  }
  show(URL.createObjectURL(blob), image ? "image" : "video", name);
  tell("Sending " + name + " …");
  const form = new FormData();
  form.append("file", blob, name);
  const [found, why] = await sent(form);
  if (turn !== taken) return;
  if (why) return tell(name + " was not sent. " + why, true);
  hold({ id: found.id, key: found.id });
  tell(name + " is ready to be read.");
  if (video.error) unplayable();
}

// What the server says of a clip, or why it says nothing, in words of ours: a browser's own are
// not for people.
async function sent(form) {
  let answer = null, found = null;
  try {
    answer = await fetch(new URL("clips", document.baseURI), { method: "POST", body: form });
  } catch {
    return [null, "The server cannot be reached; check the connection, and add the clip again."];
  }
  try {
    found = await answer.json();
  } catch {
    // Not the server's own answer, but one of a proxy before it.
  }
  if (answer.ok && found && found.id) return [found, ""];
  if (found && found.error && found.error.message) return [null, found.error.message];
  if (answer.status === 413) return [null, "It is larger than is taken here; cut or shrink it."];
  return [null, "The server gave no answer that can be read (" + answer.status + "); try again later."];
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
  leave();
  hold(null);
  show(null);
  tell("");
  file.focus();
});

// --- recording -------------------------------------------------------------------------------

if (!navigator.mediaDevices || !window.MediaRecorder) record.hidden = true;
record.addEventListener("click", async () => {
  if (recorder) return recorder.stop();
  if (asking) return;
  const turn = taken;
  let stream = null;
  asking = true;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: true, audio: true });
    if (turn === taken) return start(stream);
  } catch (error) {
    if (turn === taken) tell(refused(error), true);
  } finally {
    asking = false;
  }
  if (stream) release(stream);
});

function start(stream) {
  const kind = ["video/webm", "video/mp4"].find((type) => MediaRecorder.isTypeSupported(type));
  const parts = [], made = new MediaRecorder(stream, { mimeType: kind });
  leave();
  hold(null);
  show(null);
  stage.classList.remove("empty");
  video.hidden = false;
  video.muted = true;
  video.srcObject = stream;
  video.play().catch(() => {});  // another clip came before it began
  const turn = taken, limit = setTimeout(() => made.stop(), 1000 * longest);
  made.addEventListener("dataavailable", (event) => parts.push(event.data));
  made.addEventListener("stop", () => {
    clearTimeout(limit);
    release(stream);
    recorder = null;
    record.textContent = "Record";
    if (turn === taken) take(new Blob(parts, { type: kind }), "recording." + kind.split("/")[1]);
  });
  made.start();
  recorder = made;
  record.textContent = "Stop recording";
  tell("Recording, with sound; at most " + longest + " seconds.");
}

function release(stream) {
  stream.getTracks().forEach((track) => track.stop());
}

function refused(error) {
  if (error.name === "NotAllowedError") {
    return "The browser may not use the camera and microphone; allow it, and record again.";
  }
  if (error.name === "NotFoundError") return "There is no camera and microphone to record with.";
  return "The camera and microphone cannot be used; another program may hold them.";
}

// --- the peak --------------------------------------------------------------------------------

// Answers that were still on their way when the clip was changed are of another one.
const others = document.head.appendChild(document.createElement("style"));
function showOnlyAnswersOf(value) {
  const now = '="' + CSS.escape(key(value)) + '"]';
  others.textContent = "[data-clip]:not([data-clip" + now + "), [data-unless-clip" + now + " { display: none; }";
}

showOnlyAnswersOf(props.value);

function key(value) {
  return (value && value.key) || "";
}

function setMark(found) {
  mark = found && found.clip === key(props.value) ? found : null;
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
  leave();
  showOnlyAnswersOf(value);
  show(new URL("examples/" + value.example, document.baseURI).href, "video", value.title);
  tell("The example is ready to be read.");
});
