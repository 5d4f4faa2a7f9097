// @ts-check
"use strict";
/* What the page knows: the batch, its tiles, and on demand the details of one.
 *
 * A page that was opened as a file may not fetch another one, but may run scripts that lie beside
 * it: each calls take() with arrays. Only scripts with this build's nonce run at all.
 */

/**
 * @typedef {object} Tile
 * @property {number} number its place in the data
 * @property {string} job
 * @property {number|null} output null: the job gave no file
 * @property {number|null} row
 * @property {string} status
 * @property {string|null} fault
 * @property {string|null} error
 * @property {string|null} prompt
 * @property {string|null} negative
 * @property {string|null} seed a number too large for JavaScript
 * @property {string|null} provider
 * @property {string|null} gpu
 * @property {string|null} host
 * @property {number|null} usd
 * @property {number|null} seconds
 * @property {number|null} finished epoch seconds
 * @property {string|null} media
 * @property {number|null} width
 * @property {number|null} height
 * @property {string|null} thumb sha256 of the file
 * @property {number} alike the same for pictures that differ in their seed alone
 * @property {[number, string|number|boolean|null][]} columns number of the column, value
 * @property {string} [haystack] what is searched, made when first searched
 */

/**
 * @typedef {object} Details
 * @property {string|null} link
 * @property {number|null} bytes
 * @property {number} attempts
 * @property {string|null} error
 * @property {string} again the command that renders it again
 * @property {[string, string][]} params
 * @property {[string, string][]} columns
 * @property {(string|null)[][]} tries status, fault, provider, host, error
 */

/**
 * @typedef {object} Batch
 * @property {string} batch
 * @property {string} catalog
 * @property {string} date
 * @property {number} jobs
 * @property {number} done
 * @property {number} reused
 * @property {number} failed
 * @property {number|null} usd
 * @property {number} tiles that there are
 * @property {number} shown of them
 * @property {number} files
 * @property {number} tiles_per_file
 * @property {string[]} fields
 * @property {string[]} columns
 */

const NONCE = /** @type {HTMLScriptElement} */ (document.currentScript).nonce;
const FOLDER = document.documentElement.dataset.folder ?? "";
const OURS = /^page-[0-9a-f]{16}\/(batch|(tiles|details)-[0-9]{4,})\.js$/;

const policy = /** @type {any} */ (window).trustedTypes?.createPolicy("nightkiln", {
  /** @param {string} path */
  createScriptURL(path) {
    if (!OURS.test(path)) throw new TypeError("not a script of this page");
    return path;
  },
});

/** @type {Batch} */
let batch;
/** @type {Tile[]} */
const tiles = [];
/** @type {Map<string, (value: any) => void>} */
const awaited = new Map();
/** @type {Map<number, Promise<Details[]>>} */
const detailFiles = new Map();

/**
 * Called by the scripts that hold data.
 * @param {string} kind
 * @param {number} number
 * @param {unknown} value
 */
function take(kind, number, value) {
  awaited.get(`${kind}-${number}`)?.(value);
}

/**
 * Run one of those scripts and wait for what it hands over.
 * @param {string} kind
 * @param {number} number
 * @returns {Promise<any>}
 */
function load(kind, number) {
  return new Promise((resolve, reject) => {
    const name = kind === "batch" ? kind : `${kind}-${String(number).padStart(4, "0")}`;
    const path = `${FOLDER}/${name}.js`;
    const script = document.createElement("script");
    awaited.set(`${kind}-${number}`, resolve);
    script.addEventListener("load", () => script.remove());
    script.addEventListener("error", () => {
      script.remove();
      reject(new Error(`${path} cannot be loaded: the gallery was built anew, or moved without it. Reload.`));
    });
    script.nonce = NONCE;
    script.src = policy ? policy.createScriptURL(path) : path;
    document.head.append(script);
  });
}

/**
 * Load everything that the grid needs; told after each part.
 * @param {(isWhole: boolean) => void} told
 */
async function loadTiles(told) {
  batch = await load("batch", 0);
  const parts = Array.from({ length: batch.files }, (_, number) => load("tiles", number));
  for (const [number, part] of parts.entries()) {
    for (const row of await part) tiles.push(tileOf(row));
    told(number === parts.length - 1);
  }
  if (parts.length === 0) told(true);
}

/**
 * @param {unknown[]} row
 * @returns {Tile}
 */
function tileOf(row) {
  /** @type {any} */
  const tile = { number: tiles.length };
  for (const [place, field] of batch.fields.entries()) tile[field] = row[place];
  return tile;
}

/**
 * What is shown beside a picture.
 * @param {Tile} tile
 * @returns {Promise<Details>}
 */
async function detailsOf(tile) {
  const file = Math.floor(tile.number / batch.tiles_per_file);
  let part = detailFiles.get(file);
  if (part === undefined) {
    part = load("details", file);
    detailFiles.set(file, part);
  }
  return (await part)[tile.number % batch.tiles_per_file];
}

/**
 * Where the thumbnail of a tile is.
 * @param {Tile} tile
 */
function thumbnailOf(tile) {
  return tile.thumb === null ? null : `thumbnails/${tile.thumb.slice(0, 2)}/${tile.thumb}.webp`;
}
