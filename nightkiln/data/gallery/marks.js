// @ts-check
"use strict";
/* Marks: jobs that somebody wants to come back to. They stay in this browser until exported. */

/** @type {Set<string>} */
const marks = new Set();
/** Marked, and not on this page: it was built of some jobs only.
 * @type {string[]} */
let others = [];
/** @type {(() => void)[]} */
const onMarks = [];

const marksKey = () => `nightkiln-marks ${location.pathname} ${batch.batch}`;

/** What an earlier visit has marked; a browser may refuse to remember anything. */
function recallMarks() {
  try {
    const known = new Set(tiles.map((tile) => tile.job));
    const kept = JSON.parse(localStorage.getItem(marksKey()) ?? "[]");
    for (const job of kept) if (known.has(job)) marks.add(job);
    others = kept.filter((/** @type {unknown} */ job) => typeof job === "string" && !known.has(job));
  } catch {
    marks.clear();
  }
}

/** @param {Tile} tile */
function isMarked(tile) {
  return marks.has(tile.job);
}

/**
 * Mark a tile's job, or take the mark away.
 * @param {Tile} tile
 */
function toggleMark(tile) {
  if (!marks.delete(tile.job)) marks.add(tile.job);
  try {
    localStorage.setItem(marksKey(), JSON.stringify([...others, ...marks]));
  } catch {
    toast("This browser does not keep marks: export them before you close the page.");
  }
  for (const told of onMarks) told();
}

/** Save the marks as a file: one job id a line, in the order of the catalog. */
function exportMarks() {
  if (marks.size === 0) {
    toast("Nothing is marked: m marks a picture.");
    return;
  }
  const jobs = new Set(tiles.filter(isMarked).map((tile) => tile.job));
  const name = `marks-${batch.batch}.txt`;
  const address = URL.createObjectURL(new Blob([[...jobs].join("\n"), "\n"], { type: "text/plain" }));
  el("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
  toast(`${counted(jobs.size, "job")} in ${name}: one job id a line`);
}
