// Starts the parts, and what belongs to none of them: the choice of moment, and light or dark.
function startMoments() {
  const buttons = data.moments.map((moment, place) => {
    const button = make("button", { type: "button", role: "radio" }, clock(moment.seconds));
    button.addEventListener("click", () => showMoment(place));
    button.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step) return;
      event.preventDefault();
      showMoment(place + step);
      buttons[state.moment].focus();
    });
    return button;
  });
  byId("moments").replaceChildren(...buttons);
  onMoment((moment) => {
    buttons.forEach((button, place) => {
      button.setAttribute("aria-checked", place === state.moment);
      button.tabIndex = place === state.moment ? 0 : -1;
    });
    byId("moment-words").textContent = `Frame ${moment.frame}: ${moment.reason}.`;
  });
  document.addEventListener("keydown", (event) => {
    const step = { "[": -1, "]": 1 }[event.key];
    if (step && !event.ctrlKey && !event.metaKey && event.target.tagName !== "SELECT") showMoment(state.moment + step);
  });
}

function startTheme() {
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const wear = (theme) => {
    document.documentElement.dataset.theme = theme;
    byId("theme").textContent = theme === "dark" ? "Light" : "Dark";
    byId("theme").setAttribute("aria-label", `Change to ${theme === "dark" ? "light" : "dark"} colours`);
    if (window.Plotly) drawPlots();
  };
  byId("theme").addEventListener("click", () =>
    wear(document.documentElement.dataset.theme === "dark" ? "light" : "dark"),
  );
  prefersDark.addEventListener("change", () => wear(prefersDark.matches ? "dark" : "light"));
  wear(prefersDark.matches ? "dark" : "light");
}

startTheme();
startMoments();
if (data.moments.length) {
  startViewer();
  startLoops();
} else {
  for (const id of ["moments-bar", "pictures", "motion"]) byId(id).hidden = true;
}
showMoment(0);
startPlots()
  .catch((error) => {
    byId("metric-words").textContent = `The curves cannot be drawn in this browser: ${error.message}`;
  })
  .finally(() => {
    document.documentElement.dataset.ready = "yes";
  });
