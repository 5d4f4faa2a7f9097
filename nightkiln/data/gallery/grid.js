// @ts-check
"use strict";
/* A grid of any number of tiles, of which only those in sight (and a little more) are elements. */

const GAP_PX = 12;
const BELOW_PX = 66; // caption and figures under a picture: see .caption and .meta
const COLUMNS_TWO_PX = 280; // wide enough for two, however large they are wanted
const LINES_MORE = 2; // drawn above and below what is in sight

class Grid {
  /**
   * @param {HTMLElement} scroller
   * @param {HTMLElement} ground
   * @param {(tile: Tile) => void} open
   */
  constructor(scroller, ground, open) {
    this.scroller = scroller;
    this.ground = ground;
    this.open = open;
    /** @type {Tile[]} */
    this.shown = [];
    this.active = 0; // place of the tile that has, or had, the focus
    this.side = 200;
    this.columns = 1;
    /** @type {Map<number, HTMLElement>} */
    this.lines = new Map();
    scroller.addEventListener("scroll", () => this.draw(), { passive: true });
    new ResizeObserver(() => this.lay()).observe(scroller);
    ground.addEventListener("click", (event) => this.clicked(event));
    ground.addEventListener("focusin", (event) => this.focused(event));
    ground.addEventListener("keydown", (event) => this.pressed(event));
  }

  get step() {
    return (this.ground.clientWidth + GAP_PX) / this.columns - GAP_PX + BELOW_PX + GAP_PX;
  }

  /**
   * Show these, the focus on the one that had it if it is still there.
   * @param {Tile[]} some
   */
  show(some) {
    const before = this.shown[this.active];
    const place = before === undefined ? -1 : some.indexOf(before);
    this.shown = some;
    this.active = Math.max(0, place);
    this.lay();
    if (place < 0) this.scroller.scrollTop = 0;
  }

  /** @param {number} side pixels, about */
  resize(side) {
    this.side = side;
    this.lay();
    this.reveal();
  }

  /** Find out how many fit side by side, and draw anew. */
  lay() {
    const width = this.ground.clientWidth;
    const least = width >= COLUMNS_TWO_PX ? 2 : 1;
    this.columns = Math.max(least, Math.floor((width + GAP_PX) / (this.side + GAP_PX)));
    const lines = Math.ceil(this.shown.length / this.columns);
    this.ground.style.height = `${Math.max(0, lines * this.step - GAP_PX)}px`;
    this.ground.setAttribute("aria-rowcount", String(lines));
    this.ground.setAttribute("aria-colcount", String(this.columns));
    const hadFocus = this.ground.contains(document.activeElement);
    for (const line of this.lines.values()) line.remove();
    this.lines.clear();
    this.draw();
    if (hadFocus) this.focus();
  }

  /** Make the lines in sight, and take away the others. */
  draw() {
    const top = this.scroller.scrollTop - this.ground.offsetTop;
    const last = Math.ceil(this.shown.length / this.columns) - 1;
    const from = Math.max(0, Math.floor(top / this.step) - LINES_MORE);
    const to = Math.min(last, Math.ceil((top + this.scroller.clientHeight) / this.step) + LINES_MORE);
    const kept = Math.floor(this.active / this.columns); // else Tab would find no way in
    for (const [number, line] of this.lines) {
      if ((number < from || number > to) && number !== kept) {
        line.remove();
        this.lines.delete(number);
      }
    }
    for (let number = from; number <= to; number++) this.line(number);
    if (kept <= last) this.line(kept);
  }

  /** @param {number} number */
  line(number) {
    if (this.lines.has(number)) return;
    const line = el("div", { class: "line", role: "row", "aria-rowindex": number + 1 });
    line.style.transform = `translateY(${number * this.step}px)`;
    line.style.gridTemplateColumns = `repeat(${this.columns}, minmax(0, 1fr))`;
    const first = number * this.columns;
    for (const [column, tile] of this.shown.slice(first, first + this.columns).entries()) {
      line.append(this.cell(tile, first + column, column));
    }
    // In the order of the lines, so that a screen reader finds them in it.
    const after = [...this.lines.keys()].filter((one) => one > number).sort((one, other) => one - other)[0];
    this.ground.insertBefore(line, after === undefined ? null : (this.lines.get(after) ?? null));
    this.lines.set(number, line);
  }

  /**
   * @param {Tile} tile
   * @param {number} place
   * @param {number} column
   */
  cell(tile, place, column) {
    const cell = el(
      "div",
      {
        class: tile.status === "failed" ? "tile is-failed" : "tile",
        role: "gridcell",
        tabindex: place === this.active ? 0 : -1,
        "aria-colindex": column + 1,
        "aria-selected": String(isMarked(tile)),
        "data-place": place,
      },
      el("div", { class: "box" }, pictureOf(tile)),
      el("div", { class: "caption", "aria-hidden": "true" }, tile.prompt ?? ""),
      el("div", { class: "meta" }, el("span", {}, tile.seed === null ? "" : `seed ${tile.seed}`), el("span", {}, usd(tile.usd))),
      el("button", { class: "star", type: "button", tabindex: -1, "aria-label": "Mark" }, isMarked(tile) ? "★" : "☆"),
    );
    return cell;
  }

  /** Show marks as they are now. */
  remark() {
    for (const cell of this.ground.querySelectorAll(".tile")) {
      const tile = this.shown[Number(/** @type {HTMLElement} */ (cell).dataset.place)];
      cell.setAttribute("aria-selected", String(isMarked(tile)));
      const star = cell.querySelector(".star");
      if (star !== null) star.textContent = isMarked(tile) ? "★" : "☆";
    }
  }

  /** @returns {Tile|undefined} */
  get current() {
    return this.shown[this.active];
  }

  /** @param {Event} event */
  place(event) {
    const cell = /** @type {Element} */ (event.target).closest(".tile");
    return cell === null ? null : Number(/** @type {HTMLElement} */ (cell).dataset.place);
  }

  /** @param {MouseEvent} event */
  clicked(event) {
    const place = this.place(event);
    if (place === null) return;
    this.activate(place);
    if (/** @type {Element} */ (event.target).closest(".star")) toggleMark(this.shown[place]);
    else this.open(this.shown[place]);
  }

  /** @param {FocusEvent} event */
  focused(event) {
    const place = this.place(event);
    if (place !== null) this.activate(place);
  }

  /** @param {number} place */
  activate(place) {
    this.ground.querySelector('.tile[tabindex="0"]')?.setAttribute("tabindex", "-1");
    this.active = place;
    this.ground.querySelector(`[data-place="${place}"]`)?.setAttribute("tabindex", "0");
  }

  /** @param {KeyboardEvent} event */
  pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const page = Math.max(1, Math.floor(this.scroller.clientHeight / this.step)) * this.columns;
    /** @type {Record<string, number>} */
    const steps = {
      ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.columns, ArrowDown: this.columns,
      PageUp: -page, PageDown: page, Home: -this.shown.length, End: this.shown.length,
    };
    if (event.key === "Enter" && this.current !== undefined) this.open(this.current);
    else if (event.key in steps) this.focus(this.active + steps[event.key]);
    else return;
    event.preventDefault();
  }

  /**
   * Give a tile the focus, and bring it into sight.
   * @param {number} [place]
   */
  focus(place = this.active) {
    if (this.shown.length === 0) return;
    this.activate(Math.min(this.shown.length - 1, Math.max(0, place)));
    this.reveal();
    const cell = /** @type {HTMLElement|null} */ (this.ground.querySelector(`[data-place="${this.active}"]`));
    cell?.focus({ preventScroll: true });
  }

  /** Scroll as little as it takes to see the active tile. */
  reveal() {
    const top = this.ground.offsetTop + Math.floor(this.active / this.columns) * this.step;
    const bottom = top + this.step;
    if (top < this.scroller.scrollTop) this.scroller.scrollTop = top - GAP_PX;
    else if (bottom > this.scroller.scrollTop + this.scroller.clientHeight) {
      this.scroller.scrollTop = bottom - this.scroller.clientHeight;
    }
    this.draw();
  }
}

/**
 * A thumbnail, or what there is instead of one.
 * @param {Tile} tile
 */
function pictureOf(tile) {
  const thumbnail = thumbnailOf(tile);
  if (thumbnail === null) return insteadOf(tile);
  const image = el("img", { src: thumbnail, alt: tile.prompt ?? `job ${tile.job}`, decoding: "async", draggable: "false" });
  image.addEventListener("error", () => image.replaceWith(insteadOf(tile, "the thumbnail is missing")), { once: true });
  return image;
}

/**
 * @param {Tile} tile
 * @param {string} [why]
 */
function insteadOf(tile, why) {
  const said = reasonOf(tile) ?? (tile.media !== null && !tile.media.startsWith("image/") ? tile.media : (why ?? "no thumbnail"));
  return el("div", { class: "instead" }, tile.status === "failed" ? `Failed. ${said}` : said);
}
