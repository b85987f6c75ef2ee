import { Canvas, drawCurve } from '@iio-bridge/host-client/plot';

/** Draws values as a line of Braille dots, `rows` lines of `columns` characters, scaled to the largest magnitude. */
export function plot(values: readonly number[], columns: number, rows: number): string[] {
  const canvas = new Canvas(columns, rows);
  const peak = values.reduce((largest, value) => Math.max(largest, Math.abs(value)), 1);
  drawCurve(canvas, values, (value) => Math.round(((1 - value / peak) / 2) * (canvas.height - 1)), 1);
  return canvas.lines((text) => text);
}
