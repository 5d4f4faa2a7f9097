// @ts-check
"use strict";
/* Puts the page together: controls, keys, and what they change. */

const DRAW_WAIT_MS = 120; // after the last letter of a search
const REASONS_MAX = 50;

/** @type {Filter} */
const filter = { text: "", wishes: new Map(), reason: null, marked: null };
/** @type {Facet[]} */
let facets = [];
/** @type {{id: string, label: string, value: (tile: Tile) => Value}[]} */
let orders = [{ id: "number", label: "Catalog", value: (tile) => tile.number }];
let isReversed = false;
let isWhole = false;

const grid = new Grid(byId("scroll"), byId("grid"), () => viewer.show());
const viewer = new Viewer(grid);
const seeds = new Seeds(grid);

/** Show what filter and order ask for. */
function refresh() {
  const order = orders.find((one) => one.id === byId("sort").value) ?? orders[0];
  const some = filtered(tiles, filter, facets);
  grid.show(order.id === "number" && !isReversed ? some : sorted(some, order.value, isReversed));
  const isAll = some.length === tiles.length;
  const of = isAll ? "" : ` of ${tiles.length.toLocaleString("en")}`;
  const left = isWhole && batch.tiles > batch.shown ? `; ${counted(batch.tiles - batch.shown, "more")} left out: build the gallery with --where` : "";
  byId("count").textContent = `${some.length.toLocaleString("en")}${of} shown${isWhole ? "" : ", loading…"}${left}`;
  byId("clear").hidden = isAll;
  byId("nothing").hidden = some.length > 0 || !isWhole;
}

function countMarks() {
  byId("marks").textContent = String(marks.size);
  byId("export").disabled = marks.size === 0;
  grid.remark();
}

/** What is known from the first file on. */
function tellBatch() {
  byId("title").textContent = batch.batch;
  const parts = [
    `catalog ${batch.catalog}`, batch.date, counted(batch.jobs, "job"), `${batch.done.toLocaleString("en")} done`,
    batch.reused > 0 ? `${batch.reused.toLocaleString("en")} reused` : "",
    batch.failed > 0 ? `${batch.failed.toLocaleString("en")} failed` : "",
    batch.usd === null ? "" : usd(batch.usd),
  ];
  byId("facts").textContent = parts.filter(Boolean).join(" · ");
}

/** Failures by reason, most frequent first; each filters. */
function tellReasons() {
  /** @type {Map<string, number>} */
  const counts = new Map();
  for (const tile of tiles) {
    const reason = reasonOf(tile);
    if (reason !== null) counts.set(reason, (counts.get(reason) ?? 0) + 1);
  }
  if (counts.size === 0) return;
  const often = [...counts].sort((one, other) => other[1] - one[1]).slice(0, REASONS_MAX);
  const total = [...counts.values()].reduce((sum, count) => sum + count, 0);
  byId("reasons").querySelector("summary").textContent = `${total.toLocaleString("en")} failed, for ${counted(counts.size, "reason")}`;
  byId("reasons").querySelector("ul").replaceChildren(
    ...often.map(([reason, count]) => {
      const button = el("button", { type: "button", "data-reason": reason }, `${count.toLocaleString("en")} × ${reason}`);
      button.addEventListener("click", () => {
        filter.reason = filter.reason === reason ? null : reason;
        tellReason();
        refresh();
      });
      return el("li", {}, button);
    }),
  );
  byId("reasons").hidden = false;
}

/** Which reason is filtered by. */
function tellReason() {
  for (const button of byId("reasons").querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(button.dataset.reason === filter.reason));
  }
}

/** Controls that depend on what there is. */
function offerFilters() {
  facets = facetsOf(tiles, batch.columns);
  byId("filters").replaceChildren(...facets.map((one) => el("label", {}, one.label, controlOf(one))));
  /** @type {typeof orders} */
  const own = [
    { id: "prompt", label: "Prompt", value: (tile) => tile.prompt },
    { id: "finished", label: "Finished", value: (tile) => tile.finished },
  ];
  const known = new Set(["usd", "seconds", "seed", "status"]);
  const rest = facets.filter((one) => known.has(one.id) || one.id.startsWith("column-"));
  for (const [id, label, value] of OWN_FACETS) {
    if (known.has(id) && !rest.some((one) => one.id === id)) own.push({ id, label, value });
  }
  orders = [orders[0], ...own, ...rest];
  byId("sort").replaceChildren(...orders.map((one) => el("option", { value: one.id }, one.label)));
}

/**
 * @param {Facet} one
 * @returns {HTMLElement}
 */
function controlOf(one) {
  if (one.kind === "choice") {
    const options = one.choices.map((value) => el("option", { value: JSON.stringify(value) }, value === null ? "(none)" : String(value)));
    const select = /** @type {HTMLSelectElement} */ (el("select", { name: one.id }, el("option", { value: "" }, "any"), ...options));
    select.addEventListener("change", () => wish(one.id, select.value === "" ? null : { choice: select.value }));
    return select;
  }
  if (one.kind === "range") return rangeOf(one);
  const input = /** @type {HTMLInputElement} */ (el("input", { name: one.id, type: "text", autocomplete: "off", placeholder: one.kind === "exact" ? "exactly" : "contains" }));
  input.addEventListener("input", soon(() => {
    const typed = input.value.trim();
    const wanted = one.kind === "exact" ? { choice: JSON.stringify(typed) } : { text: typed.toLowerCase() };
    wish(one.id, typed === "" ? null : wanted);
  }));
  return input;
}

/** @param {Facet} one */
function rangeOf(one) {
  const [least, most] = ["from", "to"].map((word) =>
    /** @type {HTMLInputElement} */ (el("input", { name: `${one.id}-${word}`, type: "number", step: "any", placeholder: word, "aria-label": `${one.label} ${word}` })));
  const changed = soon(() => {
    /** @type {Wish} */
    const wanted = {};
    if (least.value !== "") wanted.least = Number(least.value);
    if (most.value !== "") wanted.most = Number(most.value);
    wish(one.id, Object.keys(wanted).length === 0 ? null : wanted);
  });
  for (const input of [least, most]) input.addEventListener("input", changed);
  return el("span", { class: "range" }, least, most);
}

/**
 * @param {string} id
 * @param {Wish|null} wanted
 */
function wish(id, wanted) {
  if (wanted === null) filter.wishes.delete(id);
  else filter.wishes.set(id, wanted);
  refresh();
}

/**
 * Once nothing has happened for a moment.
 * @param {() => void} what
 */
function soon(what) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = window.setTimeout(what, DRAW_WAIT_MS);
  };
}

function clearAll() {
  filter.text = byId("search").value = "";
  filter.wishes.clear();
  filter.reason = filter.marked = null;
  byId("filters").reset();
  byId("marked-only").setAttribute("aria-pressed", "false");
  tellReason();
  refresh();
}

function toggleMarkedOnly() {
  filter.marked = filter.marked === null ? isMarked : null;
  byId("marked-only").setAttribute("aria-pressed", String(filter.marked !== null));
  refresh();
}

function toggleFilters() {
  const isShown = byId("filters").hidden;
  byId("filters").hidden = !isShown;
  byId("filters-button").setAttribute("aria-expanded", String(isShown));
  if (isShown) byId("filters").querySelector("select, input")?.focus();
}

/** @param {string} theme "" for the system's */
function setTheme(theme) {
  if (theme === "") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  byId("theme").textContent = `Theme: ${theme || "auto"}`;
}

function nextTheme() {
  const themes = ["", "light", "dark"];
  const theme = themes[(themes.indexOf(document.documentElement.dataset.theme ?? "") + 1) % themes.length];
  setTheme(theme);
  try { localStorage.setItem("nightkiln-theme", theme); } catch { /* it is forgotten with the page */ }
}

function recallTheme() {
  try { setTheme(["light", "dark"].find((one) => one === localStorage.getItem("nightkiln-theme")) ?? ""); } catch { setTheme(""); }
}

/** @type {Record<string, () => void>} */
const KEYS = {
  "/": () => byId("search").focus(),
  "?": () => byId("help").showModal(),
  c: () => seeds.show(),
  e: exportMarks,
  f: toggleFilters,
  m: () => grid.current && toggleMark(grid.current),
  t: nextTheme,
};
const ANYWHERE = new Set(["m", "c", "e", "t"]); // in dialogs, too

document.addEventListener("keydown", (event) => {
  const target = /** @type {Element} */ (event.target);
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  if (target.matches("input:not([type=range]), select, textarea")) return;
  const inDialog = document.querySelector("dialog[open]") !== null;
  if (Object.hasOwn(KEYS, event.key) && (!inDialog || ANYWHERE.has(event.key))) KEYS[event.key]();
  else if (target === document.body && event.key.startsWith("Arrow")) grid.focus();
  else return;
  event.preventDefault();
});

for (const [id, clicked] of /** @type {[string, () => void][]} */ ([
  ["filters-button", toggleFilters], ["marked-only", toggleMarkedOnly], ["export", exportMarks], ["theme", nextTheme],
  ["clear", clearAll], ["help-button", KEYS["?"]], ["viewer-seeds", KEYS.c],
])) byId(id).addEventListener("click", clicked);
for (const button of document.querySelectorAll("[data-close]")) {
  button.addEventListener("click", () => button.closest("dialog")?.close());
}
byId("search").addEventListener("input", soon(() => { filter.text = byId("search").value; refresh(); }));
byId("search").addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => { if (event.key === "Enter") grid.focus(); });
byId("filters").addEventListener("submit", (/** @type {Event} */ event) => event.preventDefault());
byId("sort").addEventListener("change", refresh);
byId("direction").addEventListener("click", () => {
  isReversed = !isReversed;
  byId("direction").setAttribute("aria-pressed", String(isReversed));
  byId("direction").textContent = isReversed ? "↑" : "↓";
  refresh();
});
byId("size").addEventListener("input", () => grid.resize(Number(byId("size").value)));
onMarks.push(() => { countMarks(); if (filter.marked !== null && !viewer.isOpen) refresh(); });

recallTheme();
loadTiles((whole) => {
  isWhole = whole;
  tellBatch();
  if (whole) {
    recallMarks();
    offerFilters();
    tellReasons();
    countMarks();
  }
  if (whole || grid.shown.length === 0) refresh();
}).catch((error) => { byId("count").textContent = String(error); });
