const PREFIXES = [
  [1e9, 'G'],
  [1e6, 'M'],
  [1e3, 'k'],
  [1, ''],
  [1e-3, 'm'],
  [1e-6, 'µ'],
  [1e-9, 'n'],
] as const;

/** With a prefix and a fixed number of significant digits: `1.000 kHz`, `-305 µV`. */
export function withUnit(value: number, unit: string, digits = 4): string {
  if (value === 0 || !Number.isFinite(value)) {
    return `${value === 0 ? 0 : value} ${unit}`.trimEnd();
  }
  const magnitude = Math.abs(value);
  // What would be rounded up to 1000 gets the next prefix.
  const rounding = 1 - 0.5 * 10 ** -digits;
  const [factor, prefix] = PREFIXES.find(([least]) => magnitude >= least * rounding) ?? [1e-12, 'p'];
  return `${(value / factor).toPrecision(digits)} ${prefix}${unit}`.trimEnd();
}

/** Without needless zeros, for axes: `500 kHz`, `2.5 V`. */
export function shortWithUnit(value: number, unit: string): string {
  const [number = '', rest = ''] = withUnit(value, unit).split(' ');
  const short = number.includes('.') && !number.includes('e') ? number.replace(/\.?0+$/, '') : number;
  return `${short} ${rest}`.trimEnd();
}

/** To a tenth, and without a negative zero. */
export function decibels(level: number): string {
  return (Math.round(level * 10) / 10 + 0).toFixed(1);
}

/** `00:01:23` */
export function clockTime(seconds: number): string {
  const whole = Math.floor(seconds);
  return [whole / 3600, (whole / 60) % 60, whole % 60]
    .map((part) => String(Math.floor(part)).padStart(2, '0'))
    .join(':');
}

/** The numbers 1, 2 or 5 times a power of ten between `from` and `to` that make about `count` steps. */
export function ticks(from: number, to: number, count: number): number[] {
  const raw = (to - from) / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * ([1, 2, 5, 10].find((factor) => factor * power >= raw * 0.999) ?? 10);
  const found: number[] = [];
  // Plus 0, for there is a negative zero.
  for (let n = Math.ceil(from / step - 1e-9) + 0; n * step <= to + step * 1e-9; n++) {
    found.push(n * step);
  }
  return found;
}

/** The least of 1, 2 and 5 times a power of ten that is not below `value`. */
export function niceCeiling(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value));
  return power * ([1, 2, 5].find((factor) => factor * power >= value * 0.999) ?? 10);
}
