import type { Command } from 'commander';
import type { IioEvent } from '../index.js';
import type { Interruption } from './interruption.js';
import { type CommonOptions, openContext, wholeNumber, withCommonOptions } from './options.js';
import { print, toJsonLine } from './output.js';

interface EventsOptions extends CommonOptions {
  readonly count: number;
}

export function addEventsCommand(program: Command, interruption: Interruption): void {
  withCommonOptions(program.command('events'))
    .description('print the events of a device as they happen; attr -E switches them on')
    .argument('<device>', 'id, name or label')
    .option('-n, --count <events>', 'end after so many; 0 for no end', wholeNumber, 0)
    .action((device: string, options: EventsOptions) => runEvents(device, options, interruption));
}

async function runEvents(device: string, options: EventsOptions, interruption: Interruption): Promise<void> {
  await using context = await openContext(options, interruption);
  await using events = await context.device(device).openEvents({ signal: interruption.signal });
  let count = 0;
  for await (const event of events) {
    const more = await print(options.json === true ? toJsonLine(jsonOf(event)) : formatEvent(event));
    count++;
    if (!more || count === options.count) {
      return;
    }
  }
}

function jsonOf({ channelId, type, direction, timestampNs, id }: IioEvent) {
  // Ids and time stamps have more digits than a JSON number keeps.
  return { channel: channelId, type, direction, timestampNs: String(timestampNs), id: `0x${id.toString(16)}` };
}

function formatEvent({ channelId, type, direction, timestampNs }: IioEvent): string {
  const seconds = (Number(timestampNs / 1000n) / 1e6).toFixed(6);
  return `${seconds}  ${channelId}  ${type}  ${direction}\n`;
}
