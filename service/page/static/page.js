// The page's behaviour: asks the server in the wire's own JSON, and writes what comes back as text, never as markup.

const BATCH_MILLISECONDS = 1000;
const WORD_START = "\u2581";
const byId = (id) => document.getElementById(id);
const names = new Intl.DisplayNames(["en"], { type: "language" });

function element(name, text, properties = {}) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  return Object.assign(made, properties);
}

function languageName(code) {
  try {
    return names.of(code);
  } catch {
    return code;
  }
}

async function ask(path, body) {
  const options = body && {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  };
  const response = await fetch(path, options).catch(() => {
    throw new Error("The server cannot be reached.");
  });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.message);
  return answer;
}

function tell(message, { bad = false } = {}) {
  byId("status").textContent = message;
  byId("status").classList.toggle("bad", bad);
}

// The models and language pairs, by the value of their option.
const choices = new Map();

async function loadModels() {
  const { models = [] } = await ask("page/models");
  byId("pair").replaceChildren();
  for (const model of models) {
    for (const pair of model.languagePairs) {
      const key = `${model.id} ${model.version} ${pair.sourceLanguageCode} ${pair.targetLanguageCode}`;
      const [from, to] = [pair.sourceLanguageCode, pair.targetLanguageCode].map(languageName);
      const label = pair.isDefault ? `${from} to ${to}` : `${from} to ${to} (${model.id})`;
      choices.set(key, { model, pair });
      byId("pair").append(element("option", label, { value: key }));
    }
  }
  byId("model-line").textContent = models.map((model) => `${model.id} (${model.version})`).join(", ");
  byId("go").disabled = choices.size === 0;
}

function requestOf() {
  const { model, pair } = choices.get(byId("pair").value);
  const beams = Number(byId("beam").value);
  return {
    contents: [byId("text").value],
    sourceLanguageCode: pair.sourceLanguageCode,
    targetLanguageCode: pair.targetLanguageCode,
    model: model.id,
    options: { beamSize: beams, numHypotheses: Math.min(beams, 4), returnAlignments: model.supportsAlignments ?? false },
  };
}

async function translate() {
  const request = requestOf();
  byId("go").disabled = true;
  tell("Translating…");
  try {
    show(await ask("page/translate", request), request);
    tell("Translated.");
  } catch (error) {
    tell(error.message, { bad: true });
  } finally {
    byId("go").disabled = false;
  }
}

function show(answer, request) {
  const translation = answer.translations[0];
  byId("translation").textContent = translation.text ?? "";
  byId("translation").lang = request.targetLanguageCode;
  byId("notes").textContent = notesOf(translation, answer.timings).join(" ");
  showAlternatives(translation.hypotheses ?? [], request.targetLanguageCode);
  showAttention(translation.sentences ?? [], request);
  showTimings(answer.timings);
}

function notesOf(translation, timings) {
  const notes = [];
  if (translation.truncated) notes.push("Cut off at the limit of output tokens.");
  if (translation.unknownCharacterCount) notes.push(`${translation.unknownCharacterCount} characters the model does not know.`);
  if (translation.splitPieceCount) notes.push("A sentence was too long and was cut into pieces.");
  const fallbacks = (translation.sentences ?? []).map((sentence) => sentence.fallback);
  if (fallbacks.includes("FALLBACK_REPETITION")) notes.push("Repeated itself; decoded again with a guard.");
  if (fallbacks.includes("FALLBACK_LENGTH")) notes.push("Became far too long; decoded again with a guard.");
  if (timings.cachedSentenceCount) notes.push("Answered from the cache.");
  return notes;
}

function showAlternatives(hypotheses, language) {
  byId("alternatives-section").hidden = hypotheses.length < 2;
  byId("alternatives").replaceChildren(
    ...hypotheses.slice(1).map((hypothesis) => {
      const item = element("li");
      const score = element("span", ` score ${(hypothesis.score ?? 0).toFixed(2)}`, { className: "score" });
      item.append(element("span", hypothesis.text ?? "", { lang: language }), score);
      return item;
    }),
  );
}

function showAttention(sentences, request) {
  const drawn = sentences.filter((sentence) => sentence.alignment?.weights?.length);
  byId("attention-section").hidden = drawn.length === 0;
  byId("attention").replaceChildren(...drawn.map((sentence, index) => heatMap(sentence.alignment, index + 1, request)));
}

const labelOf = (token) => (token.text ?? "").replace(WORD_START, "") || "·";

function heatMap(alignment, number, request) {
  const { sourceTokens, targetTokens, weights } = alignment;
  const table = element("table", undefined, { className: "heat" });
  table.append(element("caption", `Attention of sentence ${number}`, { className: "unseen" }));
  const head = table.createTHead().insertRow();
  head.append(element("td"));
  for (const token of sourceTokens) {
    head.append(element("th", labelOf(token), { scope: "col", lang: request.sourceLanguageCode }));
  }
  const body = table.createTBody();
  targetTokens.forEach((token, row) => {
    const line = body.insertRow();
    line.append(element("th", labelOf(token), { scope: "row", lang: request.targetLanguageCode }));
    sourceTokens.forEach((_, column) => line.append(cell(weights[row * sourceTokens.length + column])));
  });
  const region = element("div", undefined, { className: "scroll", tabIndex: 0, role: "region" });
  region.setAttribute("aria-label", `Attention map of sentence ${number}`);
  region.append(table);
  return region;
}

function cell(weight) {
  const made = element("td", weight >= 0.005 ? String(Math.round(weight * 100)) : "");
  // Between a pale and a full ground there is one that neither ink can be read on: it is left out.
  const shade = weight < 0.5 ? weight * 0.6 : 0.8 + 0.4 * (weight - 0.5);
  made.style.setProperty("--weight", shade.toFixed(3));
  made.classList.toggle("strong", weight >= 0.5);
  return made;
}

const PHASES = { total: "Total", queue: "Queue", tokenize: "Tokenize", encode: "Encode", decode: "Decode", detokenize: "Detokenize" };

function showTimings(timings) {
  byId("timings-section").hidden = false;
  const rows = Object.entries(PHASES).map(([phase, label]) => {
    const milliseconds = 1000 * Number.parseFloat(timings[phase] ?? "0s");
    return [label, `${milliseconds.toFixed(1)} ms`];
  });
  rows.push(["Decoding steps", String(timings.stepCount ?? 0)]);
  rows.push(["Tokens read and written", `${timings.sourceTokenCount ?? 0} and ${timings.targetTokenCount ?? 0}`]);
  const body = byId("timings").tBodies[0];
  body.replaceChildren(
    ...rows.map(([label, value]) => {
      const row = element("tr");
      row.append(element("th", label, { scope: "row" }), element("td", value));
      return row;
    }),
  );
}

async function showBatch() {
  if (document.hidden) return;
  try {
    const { models } = await ask("page/batch");
    byId("batch").replaceChildren(...models.map(batchOf));
  } catch {
    byId("batch").replaceChildren(element("p", "The server does not answer."));
  }
}

function batchOf(model) {
  const list = element("dl");
  const rows = element("meter", undefined, { min: 0, max: model.row_slots || 1, value: model.rows });
  rows.setAttribute("aria-label", `Rows running of ${model.id}`);
  const running = element("dd");
  running.append(rows, element("span", `${model.rows} of ${model.row_slots}`));
  list.append(element("dt", "Model"), element("dd", model.id));
  list.append(element("dt", "Rows running"), running);
  list.append(element("dt", "Sentences waiting"), element("dd", String(model.waiting)));
  return list;
}

byId("form").addEventListener("submit", (event) => {
  event.preventDefault();
  translate();
});
byId("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    byId("form").requestSubmit();
  }
});

loadModels().catch((error) => tell(error.message, { bad: true }));
showBatch();
setInterval(showBatch, BATCH_MILLISECONDS);
