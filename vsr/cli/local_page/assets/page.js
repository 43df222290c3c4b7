"use strict";
// The page of vsr ui. All text from outside goes into the document as text, never as markup.
const token = new URLSearchParams(location.search).get("token");
const byId = (id) => document.getElementById(id);
const address = (path, more = {}) => `${path}?${new URLSearchParams({ ...more, token })}`;
const page = { chosen: null, clips: new Map(), jobs: new Map(), rows: new Map(), looking: 0 };

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

async function ask(path, options = {}, more = {}) {
  const answer = await fetch(address(path, more), options);
  const told = await answer.json().catch(() => ({ error: `the server answers ${answer.status}` }));
  if (!answer.ok) throw new Error(told.error);
  return told;
}

const size = (bytes) => (bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1e3))} kB` : `${(bytes / 1e6).toFixed(1)} MB`);

// Clips

function showClips(clips) {
  const wanted = byId("filter").value.trim().toLowerCase();
  const shown = clips.filter((clip) => clip.name.toLowerCase().includes(wanted));
  const key = JSON.stringify(shown);
  byId("no-clips").hidden = shown.length > 0;
  if (byId("clips").dataset.key === key) return; // nothing changed: focus stays where it is
  byId("clips").dataset.key = key;
  page.clips = new Map(clips.map((clip) => [clip.id, clip]));
  const focused = document.activeElement?.name === "clip" ? document.activeElement.value : null;
  byId("clips").replaceChildren(
    ...shown.map((clip) => {
      const input = make("input", { type: "radio", name: "clip", value: clip.id });
      input.checked = clip.id === page.chosen;
      input.addEventListener("change", () => choose(clip.id));
      const name = make("span", { class: "name" }, clip.name);
      return make("label", {}, input, name, make("span", { class: "size" }, size(clip.bytes)));
    }),
  );
  if (focused) byId("clips").querySelector(`input[value="${focused}"]`)?.focus();
}

function choose(id) {
  page.chosen = id;
  const clip = page.clips.get(id);
  for (const input of document.getElementsByName("clip")) input.checked = input.value === id;
  byId("chosen").hidden = false;
  byId("chosen-name").textContent = clip.name;
  byId("shots").replaceChildren();
  byId("shots-words").textContent = "Looking for shots…";
  byId("added-words").textContent = "";
  page.looking += 1;
  look(id, page.looking);
}

async function look(id, number) {
  try {
    const found = await ask(`/api/clips/${id}/shots`);
    if (number !== page.looking) return; // another clip was chosen meanwhile
    if (found.state === "looking") setTimeout(() => look(id, number), 500);
    else if (found.error) byId("shots-words").textContent = found.error;
    else showShots(id, found);
  } catch (error) {
    if (number === page.looking) byId("shots-words").textContent = error.message;
  }
}

function showShots(id, found) {
  const shots = found.shots.length + found.more;
  byId("shots-words").textContent =
    `${found.width} × ${found.height} pixels, ${found.frames} frames, ${found.seconds} s, ${shots === 1 ? "one shot" : `${shots} shots`}.`;
  byId("shots").replaceChildren(
    ...found.shots.map((shot, place) => {
      const picture = make("img", { alt: `Keyframe ${shot.keyframe}`, loading: "lazy", src: address(`/api/clips/${id}/shots/${place}`) });
      return make("li", {}, picture, `Frames ${shot.first} to ${shot.last}, from ${shot.start} s`);
    }),
  );
}

// Files that are dropped

async function upload(file) {
  const words = byId("upload-words");
  words.classList.remove("bad");
  words.textContent = `Copying ${file.name}…`;
  try {
    const clip = await ask("/api/clips", { method: "PUT", body: file }, { name: file.name });
    words.textContent = `${clip.name} is here.`;
    await refresh();
    if (page.clips.has(clip.id)) choose(clip.id);
  } catch (error) {
    words.classList.add("bad");
    words.textContent = error.message;
  }
}

function startDropping() {
  const drop = byId("drop");
  for (const name of ["dragover", "drop"]) document.addEventListener(name, (event) => event.preventDefault());
  document.addEventListener("dragover", () => drop.classList.add("over"));
  document.addEventListener("dragleave", () => drop.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    drop.classList.remove("over");
    if (event.dataTransfer.files.length) upload(event.dataTransfer.files[0]);
  });
  byId("file").addEventListener("change", () => {
    if (byId("file").files.length) upload(byId("file").files[0]);
    byId("file").value = "";
  });
}

// The queue

async function add(kind) {
  const form = new FormData(byId("choices"));
  const choices = Object.fromEntries([...form].filter(([name]) => name !== "replace"));
  const words = byId("added-words");
  words.classList.remove("bad");
  try {
    await ask("/api/jobs", { method: "POST", body: JSON.stringify({ kind, clip: page.chosen, choices, replace: form.has("replace") }) });
    words.textContent = kind === "run" ? "The run is in the queue." : "The preview is in the queue.";
    await refresh();
  } catch (error) {
    words.classList.add("bad");
    words.textContent = error.message;
  }
}

function showJobs(jobs) {
  byId("no-jobs").hidden = jobs.length > 0;
  for (const [id, row] of page.rows) {
    if (!jobs.some((job) => job.id === id)) {
      row.item.remove();
      page.rows.delete(id);
    }
  }
  for (const job of jobs) {
    if (!page.rows.has(job.id)) {
      page.rows.set(job.id, makeRow(job));
      byId("jobs").prepend(page.rows.get(job.id).item); // the newest first
    }
    fillRow(page.rows.get(job.id), job);
  }
}

function makeRow(job) {
  const row = {
    title: make("span", { class: "title" }, `${job.kind === "run" ? "Run" : "Preview"}: ${job.name}`),
    state: make("span", { class: "state" }),
    words: make("p", { class: "hint" }, job.words),
    bar: make("progress", { max: "1", "aria-label": `Progress of ${job.name}` }),
    line: make("p", { class: "hint line" }),
    newest: make("div", { class: "newest" }),
    actions: make("div", { class: "actions" }),
    pictures: {},
    shown: "",
  };
  for (const [which, caption] of [["source", "Source"], ["result", "Result"]]) {
    row.pictures[which] = make("img", { alt: `${caption} of ${job.name}, newest frame` });
    row.newest.append(make("figure", {}, row.pictures[which], make("figcaption", {}, caption)));
  }
  row.item = make("li", { "data-job": job.id }, make("div", { class: "head" }, row.title, row.state), row.words, row.bar, row.line, row.newest, row.actions);
  return row;
}

const words = { waiting: "waiting", running: "running", stopped: "stopped", done: "done", failed: "failed" };

function fillRow(row, job) {
  row.item.dataset.state = job.state;
  const damaged = job.code === 6 ? ", the input was damaged" : "";
  row.state.textContent = words[job.state] + damaged;
  row.bar.hidden = job.state === "done";
  row.bar.value = job.share;
  row.line.textContent = job.state === "done" ? "" : job.line;
  row.line.classList.toggle("bad", job.state === "failed");
  row.newest.hidden = job.frame === null || job.state === "done";
  if (job.frame !== null && row.newest.dataset.frame !== String(job.frame)) {
    row.newest.dataset.frame = job.frame;
    for (const which of ["source", "result"]) row.pictures[which].src = address(`/jobs/${job.id}/${which}.webp`, { frame: job.frame });
  }
  const key = [job.state, job.has_page, job.result].join();
  if (row.shown === key) return; // buttons stay, and with them the focus
  row.shown = key;
  const hadFocus = row.actions.contains(document.activeElement);
  row.actions.replaceChildren(...actions(row, job));
  if (hadFocus) row.actions.firstElementChild?.focus();
}

function actions(row, job) {
  const made = [];
  const button = (text, what) => {
    const one = make("button", { type: "button" }, text);
    one.addEventListener("click", () => command(row, job, what));
    made.push(one);
  };
  const link = (text, path) => made.push(make("a", { href: address(path), target: "_blank", rel: "noopener" }, text));
  if (job.state === "waiting" || job.state === "running") button("Stop", "stop");
  if (job.state === "stopped" || job.state === "failed") button("Go on", "go");
  if (job.has_page && job.state === "done") link(job.kind === "run" ? "Report" : "Open preview", `/jobs/${job.id}/report`);
  if (job.result !== null && job.state === "done") {
    const play = make("button", { type: "button" }, "Play");
    play.addEventListener("click", () => playResult(row, job));
    made.push(play);
    const save = make("a", { href: address(`/jobs/${job.id}/result`), download: job.result }, `Save ${job.result}`);
    made.push(save);
  }
  if (job.state !== "running") button("Remove from list", "remove");
  return made;
}

async function command(row, job, what) {
  try {
    await ask(`/api/jobs/${job.id}/${what}`, { method: "POST", body: "{}" });
    await refresh();
  } catch (error) {
    row.line.textContent = error.message;
  }
}

function playResult(row, job) {
  if (!row.video) {
    row.video = make("video", { controls: "", loop: "", "aria-label": `Result of ${job.name}`, src: address(`/jobs/${job.id}/result`) });
    row.item.append(row.video);
  }
  row.video.play().catch((error) => {
    row.line.textContent = `This browser cannot play the file (${error.name}); save it and open it in a player.`;
  });
}

// All of it

async function refresh() {
  try {
    const state = await ask("/api/state");
    byId("lost").hidden = true;
    page.last = state;
    showClips(state.clips);
    page.clips = new Map(state.clips.map((clip) => [clip.id, clip]));
    showJobs(state.jobs);
  } catch {
    byId("lost").hidden = false;
  }
}

async function keepFresh() {
  await refresh();
  setTimeout(keepFresh, document.hidden ? 5000 : 1000);
}

byId("filter").addEventListener("input", () => page.last && showClips(page.last.clips));
byId("choices").addEventListener("submit", (event) => {
  event.preventDefault();
  add("run");
});
byId("preview").addEventListener("click", () => add("preview"));
startDropping();
keepFresh().then(() => {
  document.documentElement.dataset.ready = "yes";
});
