import { pick, type Random, randomBytes } from '../random.js';
import { mutated } from './binary-cases.js';
import { FUZZED_NAMES } from './context.js';

const NUMBERS = ['0', '1', '4', '64', '100', '-1', '+5', '4096', '65535', '65536', '2147483647', '4294967296'];
const NONSENSE = ['', 'x', '1e3', '0x10', '18446744073709551616', '99999999999999999999', 'ÿ', '(', '=', 'iio:', '\0'];
const MASKS = ['00000001', '00000002', '00000003', '00000003', '00000000', 'ffffffff', '1', '0000000g', '0'.repeat(16)];
const CHANNELS = ['voltage0', 'voltage1', 'temp0', 'voltage9', 'timestamp'];
const ATTRIBUTES = ['raw', 'scale', 'sampling_frequency', 'direct_reg_access', 'data_available', 'nosuch', ''];

/** A command as a client might send it, with the payload that it announces, about things that may be there. */
export function wellFormedCommand(random: Random): Uint8Array {
  const device = pick(random, FUZZED_NAMES);
  const number = pick(random, NUMBERS);
  switch (random(20)) {
    case 0:
      return line(random, pick(random, ['VERSION', 'HELP', 'version', 'PRINT', 'ZPRINT', '']));
    case 1:
      return line(random, `TIMEOUT ${pick(random, [...NUMBERS, '20', '20'])}`);
    case 2:
    case 3:
    case 4:
      return line(random, `READ ${target(random, device)}`);
    case 5:
    case 6:
    case 7:
      return withPayload(random, `WRITE ${target(random, device)}`, pick(random, [0, 1, 2, 16, 300, 66_000]));
    case 8:
      return line(random, `GETTRIG ${device}`);
    case 9:
      return line(random, `SETTRIG ${device} ${pick(random, ['', 'timer', 'trigger0', device])}`);
    case 10:
    case 11:
    case 12: {
      const samples = pick(random, ['1', '16', '64', number]);
      return line(random, `OPEN ${device} ${samples} ${pick(random, MASKS)}${pick(random, ['', '', ' CYCLIC'])}`);
    }
    case 13:
    case 14:
      return line(random, `READBUF ${device} ${pick(random, ['64', '256', number])}`);
    case 15:
    case 16:
      return withPayload(random, `WRITEBUF ${device}`, pick(random, [0, 1, 64, 256, 1000, 20_000]));
    case 17:
      return line(random, `CLOSE ${device}`);
    case 18:
      return line(random, `SET ${device} BUFFERS_COUNT ${number}`);
    default:
      return line(random, random(4) === 0 ? pick(random, ['EXIT', 'QUIT', 'BINARY']) : 'VERSION');
  }
}

function target(random: Random, device: string): string {
  const attribute = pick(random, ATTRIBUTES);
  const direction = pick(random, ['INPUT', 'OUTPUT', 'input']);
  return pick(random, [
    `${device} ${attribute}`,
    `${device} DEBUG ${attribute}`,
    `${device} BUFFER ${attribute}`,
    `${device} ${direction} ${pick(random, CHANNELS)} ${attribute}`,
  ]);
}

function line(random: Random, text: string): Uint8Array {
  return new TextEncoder().encode(`${text}${pick(random, ['\r\n', '\r\n', '\n', ' \t\r\n'])}`);
}

function withPayload(random: Random, command: string, bytes: number): Uint8Array {
  return Buffer.concat([line(random, `${command} ${bytes}`), randomBytes(random, bytes)]);
}

/** One case for a link in text mode. */
export function textCase(random: Random): Uint8Array {
  switch (random(12)) {
    case 0:
      return randomBytes(random, random(200));
    case 1:
      return line(random, 'A'.repeat(random(8) === 0 ? random(20_000) : random(1100)));
    case 2:
    case 3: {
      const words = new TextDecoder('latin1').decode(wellFormedCommand(random)).split(' ');
      words[random(words.length)] = pick(random, [...NUMBERS, ...NONSENSE]);
      return line(random, words.join(' '));
    }
    case 4:
    case 5:
    case 6:
      return mutated(random, wellFormedCommand(random));
    default:
      return wellFormedCommand(random);
  }
}
