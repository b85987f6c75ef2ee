/** What libiio's programs print, as lines that can be compared. */

/** One line per device, channel, and attribute of a device; without the document type, which the client's library writes. */
export function xmlLines(xml: string): string[] {
  return xml
    .replace(/<!DOCTYPE.*?\]>/s, '')
    .replaceAll('><', '>\n<')
    .replace(/<channel [^>]*[^/]>\n(?:(?!<\/channel>).*\n)*<\/channel>/g, (channel) => channel.replaceAll('\n', ''))
    .split('\n');
}

/** Conversions that depend on when they are asked for. */
const MOVING_DEVICE = { name: 'iio-sim-mixed', label: 'simulated ADC, mixed widths' };

/** Replaces values that are another one each time, whoever is asked. */
export function withoutMovingValues(lines: readonly string[]): string[] {
  let isMoving = false;
  return lines.map((line) => {
    if (/^\t\S/.test(line)) {
      isMoving = line.includes(MOVING_DEVICE.name);
    }
    const still = line.replace(/(data_available(?: value: |', value :'))\d+/, '$1N');
    if (line.startsWith(`dev '${MOVING_DEVICE.label}'`)) {
      return still.replace(/(attr 'raw', value ').*'/, "$1N'");
    }
    return isMoving ? still.replace(/(raw value: ).*/, '$1N') : still;
  });
}

/** A block of lines that belongs to one channel without a place in the buffer. */
interface ChannelBlock {
  readonly key: string;
  readonly lines: string[];
}

/** The first line of such a block in iio_info, iio_genxml and iio_attr, with what it is to be sorted by. */
const BLOCK_START =
  /^\t\t\t(\S+):\s+\((?!.*index:)|^<channel (?!.*<scan-element)(.*)|^(dev '[^']*', channel '[^']*' \([a-z]+\))/;
/** A further line of it; only iio_info has them. */
const BLOCK_REST = /^\t\t\t(?!\S+:\s+\()/;

/** Channels without a place in the buffer have no promised order: puts each run of them in one. */
export function sortUnindexedChannels(lines: readonly string[]): string[] {
  const sorted: string[] = [];
  let run: ChannelBlock[] = [];
  const endRun = () => {
    sorted.push(...run.sort((a, b) => compare(a.key, b.key)).flatMap((block) => block.lines));
    run = [];
  };
  for (const line of lines) {
    const start = BLOCK_START.exec(line);
    const block = run.at(-1);
    if (start !== null) {
      run.push({ key: start[0], lines: [line] });
    } else if (block !== undefined && BLOCK_REST.test(line)) {
      block.lines.push(line);
    } else {
      endRun();
      sorted.push(line);
    }
  }
  endRun();
  return sorted;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}

const BUFFER_FIGURES = '(?:blocks|bytes|fallbacks|lost_samples|mode|overruns|ring_fill|underruns|unplayed_samples)';
const FIGURES_TOTAL = /^\t\t(\d+) buffer-specific attributes found:$/;
const FIGURES_LINE = /^\t\t\t\tattr +\d+: /;
const FIGURE = new RegExp(
  `^\\t\\t\\t\\tattr +\\d+: ${BUFFER_FIGURES} value|^dev '.*', buffer attr '${BUFFER_FIGURES}'|^<buffer-attribute name="${BUFFER_FIGURES}"`,
);

/** Without the attributes that the bridge adds to every buffer; iio_info numbers the others, and says how many there are. */
export function withoutBufferFigures(lines: readonly string[]): string[] {
  let number: number | undefined;
  return lines.flatMap((line, at) => {
    const total = FIGURES_TOTAL.exec(line)?.[1];
    if (total !== undefined) {
      number = 0;
      const others = lines.slice(at + 1).findIndex((next) => !FIGURES_LINE.test(next));
      const ours = lines.slice(at + 1, at + 1 + others).filter((next) => FIGURE.test(next)).length;
      return line.replace(total, String(Number(total) - ours));
    }
    if (!FIGURES_LINE.test(line)) {
      number = undefined;
      return FIGURE.test(line) ? [] : line;
    }
    if (number === undefined) {
      return line;
    }
    if (FIGURE.test(line)) {
      return [];
    }
    const renumbered = line.replace(/attr +\d+:/, `attr ${String(number).padStart(2)}:`);
    number += 1;
    return renumbered;
  });
}
