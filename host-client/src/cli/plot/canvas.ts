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

/** Dots on a grid of characters, in one colour per character. The origin is at the top left. */
export class Canvas {
  readonly columns: number;
  readonly rows: number;
  readonly #dots: Uint8Array;
  readonly #colours: Uint8Array;

  /** In characters. */
  constructor(columns: number, rows: number) {
    this.columns = columns;
    this.rows = rows;
    this.#dots = new Uint8Array(columns * rows);
    this.#colours = new Uint8Array(columns * rows);
  }

  /** In dots. */
  get width(): number {
    return this.columns * DOT_COLUMNS;
  }

  /** In dots. */
  get height(): number {
    return this.rows * DOT_ROWS;
  }

  /** A dot outside of the canvas is not drawn. A character has the colour of its latest dot. */
  dot(x: number, y: number, colour: number): void {
    const bit = DOT_BITS[y % DOT_ROWS]?.[x % DOT_COLUMNS];
    if (bit !== undefined && x >= 0 && x < this.width && y >= 0 && y < this.height) {
      const cell = Math.floor(y / DOT_ROWS) * this.columns + Math.floor(x / DOT_COLUMNS);
      this.#dots[cell] = (this.#dots[cell] ?? 0) | (1 << bit);
      this.#colours[cell] = colour;
    }
  }

  /** From one row of dots to another, both included. */
  vertical(x: number, from: number, to: number, colour: number): void {
    for (let y = Math.min(from, to); y <= Math.max(from, to); y++) {
      this.dot(x, y, colour);
    }
  }

  /** `paint` is told neighbours of one colour at once; 0 is where nothing was drawn. */
  lines(paint: (text: string, colour: number) => string): string[] {
    return Array.from({ length: this.rows }, (_, row) => {
      let line = '';
      for (let from = row * this.columns, end = from + this.columns; from < end; ) {
        const colour = this.#colours[from] ?? 0;
        let to = from;
        let text = '';
        for (; to < end && this.#colours[to] === colour; to++) {
          text += String.fromCodePoint(BRAILLE_BLANK + (this.#dots[to] ?? 0));
        }
        line += paint(text, colour);
        from = to;
      }
      return line;
    });
  }
}

/**
 * Draws `values` from the left to the right edge of the canvas. Where several fall into one column of dots, from their
 * least to their largest; where one covers several, as a line to the next. `yOf`: a value's row of dots.
 */
export function drawCurve(
  canvas: Canvas,
  values: ArrayLike<number>,
  yOf: (value: number) => number,
  colour: number,
): void {
  const last = values.length - 1;
  let previous: number | undefined;
  for (let x = 0; x < canvas.width && last >= 0; x++) {
    const from = (x * last) / (canvas.width - 1);
    const to = Math.min(last + 1, ((x + 1) * last) / (canvas.width - 1));
    let least = Number.POSITIVE_INFINITY;
    let largest = Number.NEGATIVE_INFINITY;
    for (let i = Math.ceil(from); i < to; i++) {
      least = Math.min(least, values[i] ?? 0);
      largest = Math.max(largest, values[i] ?? 0);
    }
    if (least > largest) {
      const before = values[Math.floor(from)] ?? 0;
      const after = values[Math.ceil(from)] ?? before;
      least = before + (after - before) * (from - Math.floor(from));
      largest = least;
    }
    const [top, bottom] = [yOf(largest), yOf(least)];
    canvas.vertical(x, top, bottom, colour);
    // From the last column to here, so that a steep slope stays one line.
    if (previous !== undefined && (previous < top - 1 || previous > bottom + 1)) {
      canvas.vertical(x, previous < top ? previous + 1 : previous - 1, previous < top ? top : bottom, colour);
    }
    previous = Math.round((top + bottom) / 2);
  }
}
