import type { Command } from 'commander';
import type { Interruption } from './interruption.js';
import { type CommonOptions, openInterruptible, usageError, withCommonOptions } from './options.js';
import { print, toJson } from './output.js';

interface TrigOptions extends CommonOptions {
  readonly none?: true;
}

export function addTrigCommand(program: Command, interruption: Interruption): void {
  withCommonOptions(program.command('trig'))
    .description('print the trigger that starts the captures of a device, after assigning one if it is given')
    .argument('<device>', 'id, name or label')
    .argument('[trigger]', 'id or name')
    .option('--none', 'take the trigger away')
    .action((device: string, trigger: string | undefined, options: TrigOptions) =>
      runTrig(device, trigger, options, interruption),
    );
}

async function runTrig(
  name: string,
  wanted: string | undefined,
  options: TrigOptions,
  interruption: Interruption,
): Promise<void> {
  if (options.none === true && wanted !== undefined) {
    throw usageError(`either --none or the trigger '${wanted}'`);
  }
  await using context = await openInterruptible(options, interruption);
  const device = context.device(name);
  if (options.none === true || wanted !== undefined) {
    await device.setTrigger(wanted);
  }
  const trigger = await device.getTrigger();
  const others = context.triggers.map(({ id, name: called }) => called ?? id);
  if (options.json === true) {
    await print(toJson({ device: device.id, trigger: trigger?.name ?? trigger?.id ?? null, available: others }));
  } else {
    await print(
      trigger === undefined ? `none (there: ${others.join(', ') || 'none'})\n` : `${trigger.name ?? trigger.id}\n`,
    );
  }
}
