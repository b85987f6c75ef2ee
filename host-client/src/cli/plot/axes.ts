import { Canvas, drawCurve } from './canvas.js';
import { shortWithUnit, ticks } from './units.js';

/** Marks colours in text: an index into a palette, or undefined for the terminal's own. */
export type Paint = (text: string, colour: number) => string;

export interface Curve {
  readonly values: ArrayLike<number>;
  readonly colour: number;
}

export interface Axis {
  readonly from: number;
  readonly to: number;
  readonly unit: string;
}

/** Characters that the labels of the vertical axis take, with the axis. */
const LABEL_COLUMNS = 9;
const CHARACTERS_PER_TICK = 14;
const ROWS_PER_TICK = 3;

/** Curves with a vertical axis at their left and a horizontal one below; `rows` lines of `columns` characters. */
export function plotCurves(
  curves: readonly Curve[],
  axes: { readonly x: Axis; readonly y: Axis },
  size: { readonly columns: number; readonly rows: number },
  paint: Paint,
): string[] {
  const { x, y } = axes;
  const canvas = new Canvas(Math.max(1, size.columns - LABEL_COLUMNS), Math.max(1, size.rows - 1));
  const scale = (canvas.height - 1) / (y.to - y.from);
  const yOf = (value: number) =>
    Math.round(Math.min(canvas.height - 1, Math.max(0, (y.to - Math.min(y.to, Math.max(y.from, value))) * scale)));
  for (const { values, colour } of curves) {
    drawCurve(canvas, values, yOf, colour);
  }
  const labels = new Map(
    ticks(y.from, y.to, canvas.rows / ROWS_PER_TICK).map((tick) => [
      Math.floor(yOf(tick) / (canvas.height / canvas.rows)),
      shortWithUnit(tick, y.unit),
    ]),
  );
  const lines = canvas.lines(paint).map((line, row) => {
    const label = labels.get(row);
    return `${(label ?? '').slice(0, LABEL_COLUMNS - 2).padStart(LABEL_COLUMNS - 2)} ${label === undefined ? '│' : '┤'}${line}`;
  });
  return [...lines, horizontalAxis(x, canvas.columns)];
}

function horizontalAxis({ from, to, unit }: Axis, columns: number): string {
  let line = ' '.repeat(LABEL_COLUMNS);
  for (const tick of ticks(from, to, columns / CHARACTERS_PER_TICK)) {
    const label = shortWithUnit(tick, unit);
    const at = LABEL_COLUMNS + Math.round(((tick - from) / (to - from)) * (columns - 1));
    // Below its place, but inside of the line.
    const start = Math.max(
      LABEL_COLUMNS - 1,
      Math.min(at - Math.floor(label.length / 2), LABEL_COLUMNS + columns - label.length),
    );
    if (start > line.trimEnd().length || line.trim() === '') {
      line = line.slice(0, start).padEnd(start) + label;
    }
  }
  return line.padEnd(LABEL_COLUMNS + columns).slice(0, LABEL_COLUMNS + columns);
}
