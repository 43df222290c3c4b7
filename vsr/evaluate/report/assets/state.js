"use strict";
// What all parts of the page share: the data, the moment that is shown, and small helpers. All text from outside goes
// into the document as text, never as markup.
const data = JSON.parse(document.getElementById("page-data").textContent);
const byId = (id) => document.getElementById(id);
const state = { moment: 0, listeners: [] };

function onMoment(listener) {
  state.listeners.push(listener);
}

function showMoment(place) {
  if (!data.moments.length) return;
  state.moment = Math.max(0, Math.min(data.moments.length - 1, place));
  for (const listener of state.listeners) listener(data.moments[state.moment]);
}

function nearestMoment(seconds) {
  const distances = data.moments.map((moment) => Math.abs(moment.seconds - seconds));
  return distances.indexOf(Math.min(...distances));
}

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function colourName(place) {
  const { role } = data.versions[place];
  if (role !== "result") return `--${role}`;
  const results = data.versions.filter((version) => version.role === "result");
  return `--result-${results.indexOf(data.versions[place]) % 9}`;
}

function swatch(place) {
  const mark = make("span", { class: "swatch" });
  mark.style.background = `var(${colourName(place)})`;
  return mark;
}

function fillSelect(select, entries, chosen) {
  select.replaceChildren(...entries.map(([value, text]) => make("option", { value }, text)));
  select.value = String(chosen);
}

function clock(seconds) {
  const minutes = Math.floor(seconds / 60);
  const rest = (seconds - 60 * minutes).toFixed(2);
  return minutes ? `${minutes}:${rest.padStart(5, "0")}` : `${rest} s`;
}
