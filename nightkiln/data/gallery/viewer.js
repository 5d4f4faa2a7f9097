// @ts-check
"use strict";
/* One picture large, with all that is known of it; and the seeds of one prompt side by side. */

const COMPARED_MAX = 24; // large pictures at once

class Viewer {
  /** @param {Grid} grid */
  constructor(grid) {
    this.grid = grid;
    this.place = 0; // of the tile that is shown: the browser gives the focus back to another one
    this.dialog = /** @type {HTMLDialogElement} */ (byId("viewer"));
    this.dialog.addEventListener("close", () => this.closed());
    this.dialog.addEventListener("keydown", (event) => this.pressed(event));
    byId("previous").addEventListener("click", () => this.go(-1));
    byId("next").addEventListener("click", () => this.go(1));
    byId("viewer-mark").addEventListener("click", () => this.grid.current && toggleMark(this.grid.current));
    byId("viewer-zoom").addEventListener("click", () => this.zoom());
    onMarks.push(() => this.remark());
  }

  get isOpen() {
    return this.dialog.open;
  }

  /** Show the grid's active tile. */
  async show() {
    const tile = this.grid.current;
    if (tile === undefined) return;
    this.place = this.grid.active;
    if (!this.isOpen) this.dialog.showModal();
    byId("viewer-title").textContent = tile.prompt ?? `Job ${tile.job.slice(0, 12)}`;
    byId("previous").disabled = this.grid.active === 0;
    byId("next").disabled = this.grid.active === this.grid.shown.length - 1;
    byId("full").classList.remove("is-zoomed");
    byId("viewer-zoom").setAttribute("aria-pressed", "false");
    this.remark();
    try {
      const details = await detailsOf(tile);
      if (this.grid.current !== tile) return; // another one was asked for meanwhile
      byId("full").replaceChildren(fullOf(tile, details));
      byId("viewer-details").replaceChildren(...described(tile, details));
    } catch (error) {
      byId("viewer-details").replaceChildren(el("p", { class: "error" }, String(error)));
    }
  }

  remark() {
    const tile = this.grid.current;
    if (!this.isOpen || tile === undefined) return;
    byId("viewer-mark").setAttribute("aria-pressed", String(isMarked(tile)));
    byId("viewer-mark").textContent = isMarked(tile) ? "★ Marked" : "☆ Mark";
  }

  /** @param {number} step */
  go(step) {
    const place = this.grid.active + step;
    if (place < 0 || place >= this.grid.shown.length) return;
    this.grid.activate(place);
    this.grid.reveal();
    this.show();
  }

  zoom() {
    const isZoomed = byId("full").classList.toggle("is-zoomed");
    byId("viewer-zoom").setAttribute("aria-pressed", String(isZoomed));
  }

  closed() {
    byId("full").replaceChildren(); // what plays stops
    this.grid.focus(this.place);
  }

  /** @param {KeyboardEvent} event */
  pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const isPlayer = event.target instanceof HTMLMediaElement;
    if (event.key === "ArrowLeft" && !isPlayer) this.go(-1);
    else if (event.key === "ArrowRight" && !isPlayer) this.go(1);
    else if (event.key === "z") this.zoom();
    else return;
    event.preventDefault();
  }
}

class Seeds {
  /** @param {Grid} grid */
  constructor(grid) {
    this.grid = grid;
    this.place = 0;
    this.dialog = /** @type {HTMLDialogElement} */ (byId("seeds"));
    this.dialog.addEventListener("close", () => (viewer.isOpen ? viewer.show() : grid.focus(this.place)));
    byId("seeds-previous").addEventListener("click", () => this.go(-1));
    byId("seeds-next").addEventListener("click", () => this.go(1));
    this.dialog.addEventListener("keydown", (event) => {
      if (event.key === "ArrowLeft") this.go(-1);
      else if (event.key === "ArrowRight") this.go(1);
      else if (/^[1-9]$/.test(event.key)) byId("side-by-side").children[Number(event.key) - 1]?.querySelector("button").click();
    });
    onMarks.push(() => this.remark());
  }

  /** Show what differs from the grid's active tile in its seed alone. */
  async show() {
    const tile = this.grid.current;
    if (tile === undefined) return;
    const found = tiles.filter((one) => one.alike === tile.alike);
    const some = sorted(found, (one) => one.seed, false).slice(0, COMPARED_MAX);
    this.place = this.grid.active;
    if (!this.dialog.open) this.dialog.showModal();
    const more = found.length > some.length ? `, the first ${some.length} of them` : "";
    byId("seeds-title").textContent = `${tile.prompt ?? "No prompt"} (${counted(found.length, "seed")}${more})`;
    const figures = await Promise.all(some.map(async (one, place) => figureOf(one, await detailsOf(one), place + 1)));
    if (this.grid.current === tile) byId("side-by-side").replaceChildren(...figures);
    this.remark();
  }

  remark() {
    for (const figure of byId("side-by-side").children) {
      const isOn = marks.has(figure.dataset.job);
      figure.classList.toggle("is-marked", isOn);
      figure.querySelector("button").textContent = isOn ? "★ Marked" : "☆ Mark";
    }
  }

  /**
   * To the next prompt in what the grid shows.
   * @param {number} step
   */
  go(step) {
    const { shown, active } = this.grid;
    const alike = shown[active]?.alike;
    let place = active;
    while (shown[place]?.alike === alike && shown[place] !== undefined) place += step;
    if (shown[place] === undefined) return;
    this.grid.activate(place);
    this.grid.reveal();
    this.show();
  }
}

/**
 * @param {Tile} tile
 * @param {Details} details
 * @param {number} number the key that marks it
 */
function figureOf(tile, details, number) {
  const mark = el("button", { type: "button" }, "☆ Mark");
  mark.addEventListener("click", () => toggleMark(tile));
  const caption = el("figcaption", {}, el("span", {}, `${number}. seed ${tile.seed ?? "not known"}`), el("span", {}, usd(tile.usd)), mark);
  return el("figure", { "data-job": tile.job }, el("div", { class: tile.status === "failed" ? "box is-failed" : "box" }, fullOf(tile, details)), caption);
}

/**
 * The file itself, as large as it is.
 * @param {Tile} tile
 * @param {Details} details
 */
function fullOf(tile, details) {
  if (details.link === null || tile.media === null) return insteadOf(tile);
  const kind = tile.media.split("/")[0];
  if (kind === "video" || kind === "audio") return el(kind, { src: details.link, controls: true, preload: "metadata" });
  if (kind !== "image") return el("a", { href: details.link, rel: "noreferrer" }, `Open this file (${tile.media})`);
  const image = el("img", { src: details.link, alt: tile.prompt ?? `job ${tile.job}` });
  const why = "The file cannot be loaded: it was moved, or its link has expired. Build the gallery anew.";
  image.addEventListener("error", () => image.replaceWith(el("p", { class: "error" }, why)), { once: true });
  return image;
}

/**
 * All that is known of a tile.
 * @param {Tile} tile
 * @param {Details} details
 * @returns {HTMLElement[]}
 */
function described(tile, details) {
  const size = tile.width !== null && tile.height !== null ? `${tile.width} × ${tile.height}` : "";
  const file = details.bytes === null ? "" : [tile.media, size, bytes(details.bytes)].filter(Boolean).join(", ");
  /** @type {[string, string][]} */
  const facts = [
    ["status", tile.status], ["seed", tile.seed ?? ""], ["cost", usd(tile.usd)], ["GPU time", seconds(tile.seconds)],
    ["provider", tile.provider ?? ""], ["GPU", tile.gpu ?? ""], ["machine", tile.host ?? ""],
    ["tries", String(details.attempts)], ["finished (UTC)", moment(tile.finished)], ["file", file],
    ["catalog row", tile.row === null ? "" : String(tile.row)], ["job", tile.job],
  ];
  const parts = [details.error === null ? null : el("p", { class: "error" }, `${tile.fault ?? "unknown"}: ${details.error}`)];
  parts.push(table(facts));
  if (details.link !== null) parts.push(el("p", {}, el("a", { href: details.link, target: "_blank", rel: "noreferrer" }, "Open the file")));
  parts.push(...titled("Parameters", table(details.params)), ...titled("Catalog columns", table(details.columns)));
  if (details.tries.length > 0) parts.push(...titled("Tries that gave nothing", triesOf(details.tries)));
  parts.push(...titled("Render it again", againOf(details.again)));
  return /** @type {HTMLElement[]} */ (parts.filter((part) => part !== null));
}

/**
 * @param {string} title
 * @param {HTMLElement|null} part
 */
function titled(title, part) {
  return part === null ? [] : [el("h3", {}, title), part];
}

/** @param {[string, string][]} pairs */
function table(pairs) {
  const rows = pairs.filter(([, value]) => value !== "").map(([name, value]) =>
    el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, value)));
  return rows.length === 0 ? null : el("table", {}, el("tbody", {}, ...rows));
}

/** @param {(string|null)[][]} tries */
function triesOf(tries) {
  return el("ol", {}, ...tries.map(([status, fault, provider, host, error]) => {
    const where = [host, provider].filter(Boolean).join(", ");
    return el("li", {}, `${status}${fault === null ? "" : ` (${fault})`} on ${where || "no machine"}${error === null ? "" : `: ${error}`}`);
  }));
}

/** @param {string} command */
function againOf(command) {
  const copy = el("button", { type: "button" }, "Copy");
  copy.addEventListener("click", () => copied(command));
  return el("div", {}, el("pre", { id: "again", tabindex: 0 }, command), copy);
}

/** @param {string} text */
async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    toast("Copied.");
  } catch {
    getSelection()?.selectAllChildren(byId("again"));
    toast("Selected: copy it with the keyboard.");
  }
}
