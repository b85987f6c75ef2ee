import { afterAll, afterEach, beforeAll, beforeEach, inject } from 'vitest';
import { findReports } from '../../lab/kernel-log.js';
import {
  type KernelLogMark,
  type Machine,
  type MachineKind,
  type MachineOptions,
  startMachine,
} from '../../lab/machine.js';
import { loadModules, type ModuleSpec } from '../../lab/modules.js';

declare module 'vitest' {
  export interface ProvidedContext {
    /** The kind of machine that the running project is for. */
    machine: MachineKind;
  }
}

/** The machine that this project's tests are for. */
export function machineKind(): MachineKind {
  return inject('machine');
}

export interface UseMachineOptions extends Omit<MachineOptions, 'log'> {
  /** Inserted after each boot. */
  readonly modules?: readonly ModuleSpec[];
  /** Prepares the machine after each boot. */
  readonly prepare?: (machine: Machine) => Promise<void>;
}

/** The machine of a test file. Owns it from before the first test until after the last. */
export interface MachineFixture {
  /** The running machine. If a test killed it, the next test has a fresh one. */
  readonly machine: Machine;
  /** The running test is about this report of the kernel's: it fails unless the report comes, and not because it does. */
  expectReport(title: RegExp): void;
}

/**
 * Boots one machine for the tests of a file. After each test it fails that test if the kernel has reported trouble
 * meanwhile: a warning, an oops, what KASAN or lockdep found.
 */
export function useMachine(options: UseMachineOptions = {}): MachineFixture {
  const { modules = [], prepare, ...machineOptions } = options;
  let machine: Machine | undefined;
  let mark: KernelLogMark | undefined;
  let expected: RegExp[] = [];

  async function boot(): Promise<Machine> {
    const log = (line: string) => console.error(`lab: ${line}`);
    const booted = await startMachine(machineKind(), { ...machineOptions, log });
    try {
      await loadModules(booted, modules);
      await prepare?.(booted);
    } catch (error) {
      await booted.shutdown();
      throw error;
    }
    return booted;
  }

  beforeAll(async () => {
    machine = await boot();
  });

  beforeEach(async () => {
    expected = [];
    if (machine?.failure !== undefined) {
      await machine.shutdown();
      machine = await boot();
    }
    mark = await machine?.kernelLogMark();
  });

  afterEach(async () => {
    if (machine === undefined || mark === undefined) {
      return;
    }
    const reports = findReports(await machine.kernelLogSince(mark));
    const unexpected = reports.filter(({ title }) => !expected.some((pattern) => pattern.test(title)));
    if (unexpected.length > 0) {
      throw new Error(`The kernel reported trouble:\n${unexpected.map(({ text }) => text).join('\n\n')}`);
    }
    for (const pattern of expected) {
      if (!reports.some(({ title }) => pattern.test(title))) {
        throw new Error(`The kernel did not report ${pattern}`);
      }
    }
  });

  afterAll(async () => {
    await machine?.shutdown();
  });

  return {
    get machine(): Machine {
      if (machine === undefined) {
        throw new Error('The machine exists in tests and hooks only, not while the file is collected');
      }
      return machine;
    },
    expectReport(title) {
      expected.push(title);
    },
  };
}
