import { constants } from 'node:fs';
import { access, mkdir, readFile, writeFile } from 'node:fs/promises';
import { release } from 'node:os';
import { join } from 'node:path';
import { IioError } from '@iio-bridge/protocol';
import { Guest, guestKernelArgs, type Launch, SILENCE_MS } from './guest.js';
import { CHANNEL_FD } from './host-process.js';
import type { BootFiles, Machine, MachineOptions } from './machine.js';
import { labCacheFolder } from './paths.js';
import { patience } from './patience.js';

type Accelerator = 'kvm' | 'tcg';
type QemuKind = 'qemu' | 'qemu-debug';

const DEFAULT_MEMORY_MIB = 1536;
const DEFAULT_CPUS = 2;
const KVM_TRIAL_MS = 15_000;
/** Boot limits under tcg on a machine that compiles at the same time; measured idle: 3 s and 8 s, busy: 13 s and 48 s. */
const TCG_BOOT_MS = { qemu: 180_000, 'qemu-debug': 480_000 } as const satisfies Record<QemuKind, number>;
const TCG_SLOWNESS = { qemu: 3, 'qemu-debug': 8 } as const satisfies Record<QemuKind, number>;
const USUAL_BOOT_MS = { qemu: 6_000, 'qemu-debug': 16_000 } as const satisfies Record<QemuKind, number>;
const PORT_NAME = 'lab.agent';

/** Boots QEMU, with KVM where that has proved to work: the CPU's flag alone does not say so inside another VM. */
export async function bootQemu(kind: QemuKind, kernel: BootFiles, options: MachineOptions): Promise<Machine> {
  if (!(await kvmMayWork())) {
    return await Guest.boot(launch(kind, kernel, options, 'tcg'));
  }
  const known = await readTrial();
  if (known !== undefined) {
    return await Guest.boot(launch(kind, kernel, options, known));
  }
  try {
    const guest = await Guest.boot({ ...launch(kind, kernel, options, 'kvm'), bootTimeoutMs: KVM_TRIAL_MS });
    await writeTrial('kvm');
    return guest;
  } catch (error) {
    if (!(error instanceof IioError && error.code === 'GUEST_BOOT')) {
      throw error;
    }
    options.log?.(`KVM does not work here, emulating the processor instead: ${error.message.split('\n', 1)[0]}`);
    const guest = await Guest.boot(launch(kind, kernel, options, 'tcg'));
    // Only now: had this failed too, the cause would not be KVM.
    await writeTrial('tcg');
    return guest;
  }
}

function launch(kind: QemuKind, kernel: BootFiles, options: MachineOptions, accelerator: Accelerator): Launch {
  const kernelArgs = [
    'console=ttyS0',
    'root=hostroot',
    'rootfstype=9p',
    'rootflags=trans=virtio,version=9p2000.L,msize=262144,cache=loose',
    'ro',
    'panic=-1',
    // Emulated and with all checks, a healthy kernel is slower than the usual limits allow. Seconds.
    ...(kind === 'qemu-debug' ? ['rcupdate.rcu_cpu_stall_timeout=300'] : []),
    ...guestKernelArgs(kind, PORT_NAME, options.kernelArgs ?? []),
  ];
  const debugFactor = kind === 'qemu-debug' ? 3 : 1;
  const slowness = (accelerator === 'tcg' ? TCG_SLOWNESS[kind] : debugFactor) * patience();
  return {
    kind,
    slowness,
    modules: kernel.modules,
    bootTimeoutMs: (accelerator === 'tcg' ? TCG_BOOT_MS[kind] : 60_000 * debugFactor) * patience(),
    usualBootMs: USUAL_BOOT_MS[kind],
    silenceMs: options.silenceMs ?? SILENCE_MS * slowness,
    log: options.log ?? (() => {}),
    env: {},
    window: 256 * 1024,
    argv: () => [
      'qemu-system-x86_64',
      ...(accelerator === 'kvm' ? ['-accel', 'kvm', '-cpu', 'host'] : ['-accel', 'tcg,thread=multi', '-cpu', 'max']),
      ...['-smp', String(options.cpus ?? DEFAULT_CPUS), '-m', String(options.memoryMiB ?? DEFAULT_MEMORY_MIB)],
      ...['-nodefaults', '-nographic', '-no-reboot', '-net', 'none'],
      ...['-chardev', 'stdio,id=console,signal=off', '-serial', 'chardev:console'],
      ...['-device', 'virtio-serial-pci', '-chardev', `socket,id=agent,fd=${CHANNEL_FD}`],
      ...['-device', `virtserialport,chardev=agent,name=${PORT_NAME}`],
      '-virtfs',
      'local,path=/,mount_tag=hostroot,security_model=none,multidevs=remap,readonly=on',
      ...['-kernel', kernel.kernel, '-append', kernelArgs.join(' ')],
    ],
  };
}

async function kvmMayWork(): Promise<boolean> {
  try {
    await access('/dev/kvm', constants.R_OK | constants.W_OK);
    return /\b(?:vmx|svm)\b/.test(await readFile('/proc/cpuinfo', 'utf8'));
  } catch {
    return false;
  }
}

function trialFile(): string {
  return join(labCacheFolder(), `accelerator-${release()}`);
}

async function readTrial(): Promise<Accelerator | undefined> {
  try {
    const text = await readFile(trialFile(), 'utf8');
    return text === 'kvm' || text === 'tcg' ? text : undefined;
  } catch {
    return undefined;
  }
}

async function writeTrial(accelerator: Accelerator): Promise<void> {
  await mkdir(labCacheFolder(), { recursive: true });
  await writeFile(trialFile(), accelerator);
}
