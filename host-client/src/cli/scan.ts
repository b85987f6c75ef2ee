import type { Command } from 'commander';
import { scan } from '../index.js';
import { print, toJson } from './output.js';

export function addScanCommand(program: Command): void {
  program.command('scan').description('list the IIO contexts on USB').option('--json', 'print JSON').action(runScan);
}

async function runScan(options: { readonly json?: true }): Promise<void> {
  const contexts = await scan();
  const text = contexts.map(({ uri, description }) => `${uri}  ${description}\n`).join('');
  await print(options.json === true ? toJson(contexts) : text || 'No IIO context found.\n');
}
