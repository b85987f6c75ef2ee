import type { Command } from 'commander';
import type { Interruption } from './interruption.js';
import { type CommonOptions, openInterruptible, wholeNumber, withCommonOptions } from './options.js';
import { print, toJson } from './output.js';

export function addRegCommand(program: Command, interruption: Interruption): void {
  withCommonOptions(program.command('reg'))
    .description(
      'print a register of a device, after writing a value to it if one is given; numbers are decimal or 0x…',
    )
    .argument('<device>', 'id, name or label')
    .argument('<register>', 'its address', wholeNumber)
    .argument('[value]', 'to write', wholeNumber)
    .action((device: string, register: number, value: number | undefined, options: CommonOptions) =>
      runReg(device, { register, value }, options, interruption),
    );
}

async function runReg(
  name: string,
  { register, value }: { readonly register: number; readonly value: number | undefined },
  options: CommonOptions,
  interruption: Interruption,
): Promise<void> {
  await using context = await openInterruptible(options, interruption);
  const device = context.device(name);
  if (value !== undefined) {
    await device.writeRegister(register, value);
  }
  const current = await device.readRegister(register);
  await print(options.json === true ? toJson({ device: device.id, register, value: current }) : `${hex(current)}\n`);
}

function hex(value: number): string {
  return `0x${value.toString(16)}`;
}
