"use strict";
// Text from the server and from files goes into textContent only, so it is never taken for markup.
const MOST_ROWS = 1000;
const find = (selector) => document.querySelector(selector);

function say(text, isError) {
  find("#state").textContent = text;
  find("#state").className = isError ? "error" : "";
}

function addRow(parent, tag, cells) {
  const row = document.createElement("tr");
  for (const text of cells) {
    const cell = document.createElement(tag);
    cell.textContent = text;
    row.append(cell);
  }
  parent.append(row);
}

function show(predictions) {
  const first = predictions[0] || {};
  const values = (row) => row.probabilities || row.prediction;
  const classes = Object.keys(values(first) || {});
  addRow(find("thead"), "th", ["name", "prediction", ...classes]);
  for (const row of predictions.slice(0, MOST_ROWS)) {
    const said = typeof row.prediction === "string" ? row.prediction : [].concat(row.prediction).join(", ");
    const word = row.probabilities ? said : "";
    addRow(find("tbody"), "td", [row.name, word, ...classes.map((name) => values(row)[name].toFixed(4))]);
  }
  const rest = predictions.length > MOST_ROWS ? `, of which the first ${MOST_ROWS} are shown` : "";
  say(`${predictions.length} predictions${rest}`, false);
}

async function send(file) {
  find("thead").replaceChildren();
  find("tbody").replaceChildren();
  say(`${file.name} is on its way`, false);
  try {
    const response = await fetch("/predict", { method: "POST", body: file });
    const answer = await response.json();
    if (response.ok) show(answer.predictions);
    else say(answer.error, true);
  } catch (failure) {
    say(`the server does not answer: ${failure.message}`, true);
  }
}

const drop = find("#drop");
drop.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  if (event.dataTransfer.files.length) send(event.dataTransfer.files[0]);
});
find("#file").addEventListener("change", (event) => event.target.files.length && send(event.target.files[0]));
fetch("/model").then((response) => response.json()).then((model) => {
  find("#about").textContent = `This model takes ${model.takes} and tells ${model.classes.join(", ")} apart.`;
});
