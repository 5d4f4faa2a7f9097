// @ts-check
"use strict";
/* Words and elements. Whatever is shown gets into the document as text, never as markup. */

/**
 * An element with attributes (null: left out) and children; strings become text.
 * @param {string} name
 * @param {Record<string, string|number|boolean|null>} [attributes]
 * @param {(Node|string|null)[]} children
 * @returns {HTMLElement}
 */
function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== false) made.setAttribute(key, value === true ? "" : String(value));
  }
  for (const child of children) if (child !== null) made.append(child);
  return made;
}

/**
 * The element of the page with this id.
 * @param {string} id
 * @returns {any} as what it is: index.html says
 */
function byId(id) {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`the page has no #${id}`);
  return found;
}

/** @param {number|null} value */
function usd(value) {
  if (value === null) return "";
  if (value === 0) return "$0";
  return value < 0.1 ? `$${value.toPrecision(2)}` : `$${value.toFixed(2)}`;
}

/** @param {number|null} value */
function seconds(value) {
  return value === null ? "" : `${value < 10 ? value.toFixed(1) : Math.round(value)} s`;
}

/** @param {number} value */
function bytes(value) {
  return value < 1e6 ? `${Math.max(1, Math.round(value / 1e3))} kB` : `${(value / 1e6).toFixed(1)} MB`;
}

/**
 * UTC to the second.
 * @param {number|null} value epoch seconds
 */
function moment(value) {
  return value === null ? "" : new Date(value * 1000).toISOString().slice(0, 19).replace("T", " ");
}

/**
 * "1 picture", "2,000 pictures".
 * @param {number} count
 * @param {string} one
 */
function counted(count, one) {
  return `${count.toLocaleString("en")} ${one}${count === 1 ? "" : "s"}`;
}

let toastTimer = 0;

/**
 * Say something in passing.
 * @param {string} text
 */
function toast(text) {
  byId("toast").textContent = text;
  clearTimeout(toastTimer);
  toastTimer = window.setTimeout(() => { byId("toast").textContent = ""; }, 6000);
}
