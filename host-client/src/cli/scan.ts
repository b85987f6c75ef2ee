import { type Command, InvalidArgumentError } from 'commander';
import { parseScanOptions, type ScanOptions, scan } from '../index.js';
import { wholeNumber } from './options.js';
import { print, toJson } from './output.js';

interface ScanCommandOptions {
  readonly scan?: ScanOptions;
  readonly timeout?: number;
  readonly json?: true;
}

export function addScanCommand(program: Command): void {
  program
    .command('scan')
    .description('list the IIO contexts on USB and on the local network')
    .option('-S, --scan <where>', 'look only there: usb, usb=VID:PID, usb=VID:*, ip, or a list of them', places)
    .option('-T, --timeout <ms>', 'how long to listen on the network (default: 1000)', wholeNumber)
    .option('--json', 'print JSON')
    .action(runScan);
}

function places(text: string): ScanOptions {
  try {
    return parseScanOptions(text);
  } catch (error) {
    throw new InvalidArgumentError(error instanceof Error ? error.message : String(error));
  }
}

async function runScan(options: ScanCommandOptions): Promise<void> {
  const { timeout } = options;
  const contexts = await scan({ ...options.scan, ...(timeout === undefined ? {} : { browseMs: timeout }) });
  const text = contexts.map(({ uri, description }) => `${uri}  ${description}\n`).join('');
  await print(options.json === true ? toJson(contexts) : text || 'No IIO context found.\n');
}
