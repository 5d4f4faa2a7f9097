// @ts-check
"use strict";
/* Which tiles are shown, and in which order. Everything here is a function of its arguments. */

const CHOICES_MAX = 200; // values offered in a list; more of them are typed
const MEASURED = new Set(["usd", "seconds"]); // never the same twice
const NUMBERS_FEW = 12; // so few different numbers are chosen from, not bounded

/** @typedef {string|number|boolean|null} Value */

/**
 * @typedef {object} Facet something to filter and sort by
 * @property {string} id
 * @property {string} label
 * @property {(tile: Tile) => Value} value
 * @property {"choice"|"range"|"text"|"exact"} kind
 * @property {Value[]} choices of a choice
 */

/** @typedef {{choice?: string, text?: string, least?: number, most?: number}} Wish */

/**
 * @typedef {object} Filter
 * @property {string} text
 * @property {Map<string, Wish>} wishes by facet
 * @property {string|null} reason of failure
 * @property {((tile: Tile) => boolean)|null} marked
 */

/** @type {[string, string, (tile: Tile) => Value][]} */
const OWN_FACETS = [
  ["status", "Status", (tile) => tile.status],
  ["fault", "Whose fault", (tile) => tile.fault],
  ["provider", "Provider", (tile) => tile.provider],
  ["gpu", "GPU", (tile) => tile.gpu],
  ["host", "Machine", (tile) => tile.host],
  ["media", "Kind of file", (tile) => tile.media],
  ["usd", "Cost, USD", (tile) => tile.usd],
  ["seconds", "GPU seconds", (tile) => tile.seconds],
];

/**
 * What these tiles can be filtered by.
 * @param {Tile[]} all
 * @param {string[]} columns
 * @returns {Facet[]}
 */
function facetsOf(all, columns) {
  /** @type {Facet} */
  const seed = { id: "seed", label: "Seed", value: (tile) => tile.seed, kind: "exact", choices: [] };
  const own = OWN_FACETS.map(([id, label, value]) => facet(all, id, label, value));
  const named = columns.map((label, number) => facet(all, `column-${number}`, label, (tile) => columnOf(tile, number)));
  return [...own.filter((one) => one.choices.length > 1 || one.kind !== "choice"), seed, ...named];
}

/**
 * @param {Tile[]} all
 * @param {string} id
 * @param {string} label
 * @param {(tile: Tile) => Value} value
 * @returns {Facet}
 */
function facet(all, id, label, value) {
  /** @type {Set<Value>} */
  const found = new Set();
  for (const tile of all) {
    found.add(value(tile));
    if (found.size > CHOICES_MAX) break;
  }
  const known = [...found].filter((one) => one !== null);
  const areNumbers = known.length > 0 && known.every((one) => typeof one === "number");
  if (areNumbers && known.length > (MEASURED.has(id) ? 0 : NUMBERS_FEW)) return { id, label, value, kind: "range", choices: [] };
  if (found.size > CHOICES_MAX) return { id, label, value, kind: "text", choices: [] };
  return { id, label, value, kind: "choice", choices: [...found].sort(inOrder) };
}

/**
 * @param {Tile} tile
 * @param {number} number
 * @returns {Value}
 */
function columnOf(tile, number) {
  const found = tile.columns.find(([name]) => name === number);
  return found === undefined ? null : found[1];
}

/**
 * Words of a search; what stands in quotes is one.
 * @param {string} text
 */
function wordsOf(text) {
  const found = text.toLowerCase().match(/"[^"]*"?|\S+/g) ?? [];
  return found.map((word) => word.replace(/^"|"$/g, "")).filter((word) => word !== "");
}

/**
 * @param {Tile} tile
 * @returns {string}
 */
function haystackOf(tile) {
  tile.haystack ??= [tile.job, tile.prompt, tile.negative, tile.error, tile.seed, ...tile.columns.map(([, value]) => value)]
    .filter((one) => one !== null)
    .join("\n")
    .toLowerCase();
  return tile.haystack;
}

/**
 * Why a tile has no picture, short; the same for alike failures.
 * @param {Tile} tile
 */
function reasonOf(tile) {
  return tile.status === "failed" ? `${tile.fault ?? "unknown"}: ${tile.error ?? "no reason was given"}` : null;
}

/**
 * The tiles that a filter lets through, in the order of the data.
 * @param {Tile[]} all
 * @param {Filter} filter
 * @param {Facet[]} facets
 */
function filtered(all, filter, facets) {
  const words = wordsOf(filter.text);
  const asked = facets.filter((one) => filter.wishes.has(one.id));
  return all.filter(
    (tile) =>
      (filter.marked === null || filter.marked(tile)) &&
      (filter.reason === null || reasonOf(tile) === filter.reason) &&
      asked.every((one) => isWished(one.value(tile), filter.wishes.get(one.id) ?? {})) &&
      words.every((word) => haystackOf(tile).includes(word)),
  );
}

/**
 * @param {Value} value
 * @param {Wish} wish
 */
function isWished(value, wish) {
  if (wish.choice !== undefined && JSON.stringify(value) !== wish.choice) return false;
  if (wish.text !== undefined && !String(value ?? "").toLowerCase().includes(wish.text)) return false;
  if (wish.least !== undefined && !(typeof value === "number" && value >= wish.least)) return false;
  return wish.most === undefined || (typeof value === "number" && value <= wish.most);
}

const collator = new Intl.Collator("en", { numeric: true });

/**
 * Numbers by size, texts as people expect it, nothing last.
 * @param {Value} one
 * @param {Value} other
 */
function inOrder(one, other) {
  if (one === null || other === null) return Number(one === null) - Number(other === null);
  if (typeof one === "number" && typeof other === "number") return one - other;
  return collator.compare(String(one), String(other));
}

/**
 * Sorted by a facet, what is alike in the order of the data; what has no value is last both ways.
 * @param {Tile[]} some
 * @param {(tile: Tile) => Value} value
 * @param {boolean} isReversed
 */
function sorted(some, value, isReversed) {
  const keyed = some.map((tile) => ({ tile, key: value(tile) }));
  const sign = isReversed ? -1 : 1;
  keyed.sort((one, other) => {
    if (one.key === null || other.key === null) return inOrder(one.key, other.key);
    return sign * inOrder(one.key, other.key);
  });
  return keyed.map(({ tile }) => tile);
}
