/** A Braille character is a grid of 2 by 4 dots; bit numbers as Unicode assigns them, by [row][column]. */
const DOT_BITS = [
  [0, 3],
  [1, 4],
  [2, 5],
  [6, 7],
] as const;
const DOT_COLUMNS = 2;
const DOT_ROWS = DOT_BITS.length;
const BRAILLE_BLANK = 0x2800;

/** Draws values as a line of Braille dots, `rows` lines of `columns` characters, scaled to the largest magnitude. */
export function plot(values: readonly number[], columns: number, rows: number): string[] {
  const width = columns * DOT_COLUMNS;
  const height = rows * DOT_ROWS;
  const cells = Array.from({ length: rows }, () => new Uint8Array(columns));
  const peak = values.reduce((largest, value) => Math.max(largest, Math.abs(value)), 1);
  const dotOf = (value: number) => Math.round(((1 - value / peak) / 2) * (height - 1));

  let previous: number | undefined;
  for (let x = 0; x < width; x++) {
    const value = values[Math.floor((x * values.length) / width)];
    if (value === undefined) {
      break;
    }
    const y = dotOf(value);
    // From the middle of the last step to here, so that a steep slope stays one line.
    const from = previous === undefined || previous === y ? y : previous + Math.sign(y - previous);
    for (let dot = Math.min(from, y); dot <= Math.max(from, y); dot++) {
      const row = cells[Math.floor(dot / DOT_ROWS)];
      const bit = DOT_BITS[dot % DOT_ROWS]?.[x % DOT_COLUMNS];
      const column = Math.floor(x / DOT_COLUMNS);
      if (row !== undefined && bit !== undefined) {
        row[column] = (row[column] ?? 0) | (1 << bit);
      }
    }
    previous = y;
  }
  return cells.map((row) => Array.from(row, (dots) => String.fromCodePoint(BRAILLE_BLANK + dots)).join(''));
}
