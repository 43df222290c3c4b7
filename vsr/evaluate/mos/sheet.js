"use strict";
(() => {
  const page = JSON.parse(document.getElementById("data").textContent);
  const element = (id) => document.getElementById(id);
  const storageName = "vsr-mos-" + page.sheet;
  const words = ["bad", "poor", "fair", "good", "excellent"];
  const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
  const ratings = page.trials.map((trial) => trial.loops.map(() => null));
  let current = 0, marked = 0, paused = matchMedia("(prefers-reduced-motion: reduce)").matches;
  let players = [];

  // Pages opened from disk may have no storage: ratings then last as long as the page.
  const remembered = () => { try { return JSON.parse(localStorage.getItem(storageName)); } catch { return null; } };
  const remember = () => {
    const record = JSON.stringify({ rater: element("rater").value, ratings });
    try { localStorage.setItem(storageName, record); } catch { /* as above */ }
  };

  const player = (uris, canvas) => {
    const pictures = uris.map((uri) => { const image = new Image(); image.src = uri; return image; });
    pictures[0].decode().then(() => {
      canvas.width = pictures[0].naturalWidth;
      canvas.height = pictures[0].naturalHeight;
      canvas.getContext("2d").drawImage(pictures[0], 0, 0);
    });
    return (step) => {
      const picture = pictures[step % pictures.length];
      if (picture.complete && canvas.width) canvas.getContext("2d").drawImage(picture, 0, 0);
    };
  };

  const figure = (uris, label, position) => {
    const box = document.createElement("figure");
    const canvas = document.createElement("canvas");
    const caption = document.createElement("figcaption");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", label);
    caption.textContent = label;
    box.append(canvas, caption);
    if (position !== null) {
      box.append(scale(label, position));
      box.addEventListener("pointerdown", () => mark(position));
      box.addEventListener("focusin", () => mark(position));
    }
    players.push(player(uris, canvas));
    return box;
  };

  const scale = (label, position) => {
    const set = document.createElement("fieldset");
    set.setAttribute("aria-label", "Rating of " + label);
    words.forEach((word, index) => {
      const option = document.createElement("label");
      const input = document.createElement("input");
      Object.assign(input, { type: "radio", name: "rating" + position, value: index + 1 });
      input.checked = ratings[current][position] === index + 1;
      input.addEventListener("change", () => rate(position, index + 1));
      option.title = word;
      option.append(input, " " + (index + 1));
      set.append(option);
    });
    return set;
  };

  const mark = (position) => {
    marked = position;
    document.querySelectorAll("figure.rated").forEach((box, index) => box.classList.toggle("marked", index === marked));
  };

  const rate = (position, value) => {
    ratings[current][position] = value;
    const input = document.querySelector(`input[name=rating${position}][value="${value}"]`);
    input.checked = true;
    remember();
    tell();
  };

  const tell = () => {
    const all = ratings.flat();
    const done = all.filter((value) => value !== null).length;
    element("progress").textContent =
      `Trial ${current + 1} of ${ratings.length}; ${done} of ${all.length} pictures rated`;
    element("previous").disabled = current === 0;
    element("next").disabled = current === ratings.length - 1;
  };

  const show = (trial) => {
    current = Math.min(Math.max(trial, 0), page.trials.length - 1);
    players = [];
    const shown = page.trials[current];
    const boxes = shown.loops.map((uris, position) => figure(uris, letters[position], position));
    boxes.forEach((box) => box.classList.add("rated"));
    if (shown.reference) boxes.unshift(figure(shown.reference, "Reference (not rated)", null));
    element("pictures").replaceChildren(...boxes);
    mark(0);
    tell();
  };

  const pause = () => {
    paused = !paused;
    element("pause").setAttribute("aria-pressed", paused);
  };

  const download = () => {
    const rater = element("rater").value.trim();
    const record = { sheet: page.sheet, rater, ratings };
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([JSON.stringify(record, null, 1)], { type: "application/json" }));
    link.download = `ratings-${page.sheet}-${rater.replace(/[^A-Za-z0-9]+/g, "-") || "anonymous"}.json`;
    link.click();
    URL.revokeObjectURL(link.href);
    element("saved").textContent = "Saved as " + link.download;
  };

  document.addEventListener("keydown", (event) => {
    if (event.target === element("rater") || event.ctrlKey || event.metaKey || event.altKey) return;
    const key = event.key.toLowerCase();
    const count = ratings[current].length;
    if (key >= "1" && key <= "5") { rate(marked, Number(key)); mark((marked + 1) % count); }
    else if (key === "n") show(current + 1);
    else if (key === "p") show(current - 1);
    else if (key === " " && event.target.tagName !== "BUTTON") { pause(); event.preventDefault(); }
    else if (key.length === 1 && letters.toLowerCase().slice(0, count).includes(key)) mark(key.charCodeAt(0) - 97);
  });
  element("previous").addEventListener("click", () => show(current - 1));
  element("next").addEventListener("click", () => show(current + 1));
  element("pause").addEventListener("click", pause);
  element("download").addEventListener("click", download);
  element("rater").addEventListener("input", remember);

  const before = remembered();
  if (before) {
    element("rater").value = before.rater;
    before.ratings.forEach((values, trial) => { ratings[trial] = values; });
  }
  element("pause").setAttribute("aria-pressed", paused);
  show(0);
  let step = 0;
  setInterval(() => { if (!paused) { step += 1; players.forEach((play) => play(step)); } }, 1000 / page.framesASecond);
})();
