import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import {
  access,
  constants,
  copyFile,
  type FileHandle,
  mkdir,
  open,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  writeFile,
} from 'node:fs/promises';
import { availableParallelism, homedir } from 'node:os';
import { basename, delimiter, dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { IioError } from '@iio-bridge/protocol';

/** The lab's kernels: User-Mode Linux, x86-64 for QEMU, and the latter with KASAN and lockdep. */
export const LAB_MACHINES = ['uml', 'qemu', 'qemu-debug'] as const;
export type LabMachine = (typeof LAB_MACHINES)[number];

/**
 * The lab's modules.
 * - `iio_sim`: two ADCs and a DAC with DMABUF (lab/kernel/README.md).
 * - `dummy_hcd_sg`: `dummy_hcd` whose gadget side takes scatter-gather, thus DMABUF.
 * - `dummy_hcd`: the stock one, without. Only one of the two can be loaded.
 * - `iio_dummy_evgen`, `iio_dummy`: the stock dummy device, whose buffer is a kfifo; the second needs the first.
 */
export const LAB_MODULES = ['iio_sim', 'dummy_hcd_sg', 'dummy_hcd', 'iio_dummy_evgen', 'iio_dummy'] as const;
export type LabModule = (typeof LAB_MODULES)[number];

/** A kernel of the lab, ready to boot. */
export interface LabKernel {
  readonly machine: LabMachine;
  /** The UML program, or what QEMU's `-kernel` takes. */
  readonly kernel: string;
  /** Modules for `insmod` in the guest, which sees the host's files: paths by module name ({@link LAB_MODULES}). */
  readonly modules: Readonly<Record<LabModule, string>>;
}

export interface EnsureLabOptions {
  /** Receives a line per step and, if stderr is not a terminal, progress every 15 s. Default: stderr. */
  readonly log?: (line: string) => void;
}

/** Debian packages, for every machine and for each: `lab/apt-packages.json`, which can be read before a build. */
export const LAB_APT_PACKAGES: Readonly<Record<'common' | LabMachine, readonly string[]>> = readPackages();

interface MachineRecipe {
  readonly arch: 'um' | 'x86_64';
  /** In `lab/kernel/config`; a later line wins over an earlier one. */
  readonly fragments: readonly string[];
  /** Make target, and the file it gives, relative to the build directory. */
  readonly target: string;
  readonly image: string;
  /** About as many lines does make print for kernel and modules; for the progress line only. */
  readonly steps: number;
}

const RECIPES: Readonly<Record<LabMachine, MachineRecipe>> = {
  uml: { arch: 'um', fragments: ['common.config', 'uml.config'], target: 'linux', image: 'linux', steps: 1320 },
  qemu: {
    arch: 'x86_64',
    fragments: ['common.config', 'qemu.config'],
    target: 'bzImage',
    image: 'arch/x86/boot/bzImage',
    steps: 1780,
  },
  'qemu-debug': {
    arch: 'x86_64',
    fragments: ['common.config', 'qemu.config', 'qemu-debug.config'],
    target: 'bzImage',
    image: 'arch/x86/boot/bzImage',
    steps: 1830,
  },
};

/** Folders of the modules that are the kernel's own; the others are in `lab/kernel/modules`. */
const STOCK_MODULE_FOLDERS: Readonly<Partial<Record<LabModule, string>>> = {
  dummy_hcd: 'drivers/usb/gadget/udc',
  iio_dummy_evgen: 'drivers/iio/dummy',
  iio_dummy: 'drivers/iio/dummy',
};

const TOOLS = ['bc', 'bison', 'flex', 'flock', 'gcc', 'make', 'patch', 'tar', 'xz'] as const;
const HEADERS = ['/usr/include/libelf.h', '/usr/include/gelf.h'] as const;

/** What neither architecture compiles, left out to unpack less; Kconfig reads its own files everywhere. */
const UNUSED_SOURCES = [
  ...'alpha arc arm arm64 csky hexagon loongarch m68k microblaze mips nios2 openrisc parisc powerpc riscv s390 sh sparc xtensa'
    .split(' ')
    .map((arch) => `*/arch/${arch}/*.[chS]`),
  '*.dts',
  '*.dtsi',
  '*/Documentation/*.rst',
  '*/Documentation/*.yaml',
  '*/drivers/gpu/drm/*.[ch]',
  '*/sound/*.[ch]',
  '*/tools/testing/*',
] as const;

const PROGRESS_INTERVAL_MS = 15_000;
const LOG_TAIL_LINES = 30;

/**
 * Builds what is missing of a lab machine's kernel and modules (minutes for a kernel, seconds for the modules) and tells
 * where they are. Everything is kept in `$XDG_CACHE_HOME/iio-bridge/lab`, the kernel by source version, compiler and
 * configuration, the modules by their sources and the kernel. Safe to be called by several processes at once: one
 * builds, the others wait.
 *
 * @throws IioError `LAB_TOOLS_MISSING` (says what to install), `LAB_BUILD_FAILED` (with the end of the log)
 */
export async function ensureLab(machine: LabMachine, options: EnsureLabOptions = {}): Promise<LabKernel> {
  const builder = new LabBuilder(machine, options.log);
  return await builder.ensure();
}

class LabBuilder {
  readonly #machine: LabMachine;
  readonly #recipe: MachineRecipe;
  readonly #progress: Progress;
  readonly #kernelDir = join(findRoot(), 'lab', 'kernel');
  readonly #tarball: string;
  readonly #cache: string;

  constructor(machine: LabMachine, log: ((line: string) => void) | undefined) {
    this.#machine = machine;
    this.#recipe = RECIPES[machine];
    this.#progress = new Progress(log);
    const { IIO_BRIDGE_LINUX_SOURCE, XDG_CACHE_HOME } = process.env;
    this.#tarball = IIO_BRIDGE_LINUX_SOURCE ?? '/usr/src/linux-source-6.12.tar.xz';
    this.#cache = join(XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'iio-bridge', 'lab');
  }

  async ensure(): Promise<LabKernel> {
    const version = await this.#sourceVersion();
    const config = await this.#config();
    const compiler = capture('gcc', ['-dumpfullversion']);
    const kernelKey = hash([version, compiler, this.#recipe.arch, config]);
    const sources = await this.#moduleSources();
    const modulesKey = hash([kernelKey, ...sources.flatMap(({ name, text }) => [name, text])]);

    const build = join(this.#cache, `kernel-${this.#machine}-${kernelKey}`);
    const modules = join(this.#cache, `modules-${this.#machine}-${modulesKey}`);
    if (!existsSync(modules) || !existsSync(build)) {
      await this.#checkTools();
      await mkdir(this.#cache, { recursive: true });
      const source = await this.#ensureSource(hash([version, ...UNUSED_SOURCES]));
      await this.#once(build, (partial, lock) => this.#buildKernel(source, partial, config, lock));
      await this.#once(modules, (partial, lock) => this.#buildModules(source, build, partial, sources, lock));
    }

    const module = (name: LabModule): string => join(modules, `${name}.ko`);
    return {
      machine: this.#machine,
      kernel: join(build, this.#recipe.image),
      modules: {
        iio_sim: module('iio_sim'),
        dummy_hcd_sg: module('dummy_hcd_sg'),
        dummy_hcd: module('dummy_hcd'),
        iio_dummy_evgen: module('iio_dummy_evgen'),
        iio_dummy: module('iio_dummy'),
      },
    };
  }

  async #checkTools(): Promise<void> {
    const missing: string[] = [];
    for (const tool of TOOLS) {
      if (!(await isInPath(tool))) {
        missing.push(tool);
      }
    }
    missing.push(...[this.#tarball, ...HEADERS].filter((path) => !existsSync(path)));
    if (missing.length > 0) {
      const packages = [...LAB_APT_PACKAGES.common, ...LAB_APT_PACKAGES[this.#machine]].join(' ');
      throw new IioError(
        'LAB_TOOLS_MISSING',
        `the lab cannot be built without ${missing.join(', ')}; on Debian: sudo apt-get install ${packages}`,
      );
    }
  }

  /** The source package's version; without one, what tells this tarball from another. */
  async #sourceVersion(): Promise<string> {
    const name = basename(this.#tarball).replace(/\.tar\..*$/, '');
    const version = capture('dpkg-query', ['-W', '-f', `\${Version}`, name]);
    if (version !== '') {
      return `${name} ${version}`;
    }
    if (!existsSync(this.#tarball)) {
      await this.#checkTools();
    }
    const { size, mtimeMs } = await stat(this.#tarball);
    return `${this.#tarball} ${size} ${mtimeMs}`;
  }

  async #config(): Promise<string> {
    const texts = this.#recipe.fragments.map((name) => readFile(join(this.#kernelDir, 'config', name), 'utf8'));
    return (await Promise.all(texts)).join('\n');
  }

  async #moduleSources(): Promise<readonly { readonly name: string; readonly text: string }[]> {
    const dir = join(this.#kernelDir, 'modules');
    const names = (await readdir(dir)).filter((name) => name === 'Kbuild' || /\.(c|h|patch)$/.test(name)).sort();
    return await Promise.all(names.map(async (name) => ({ name, text: await readFile(join(dir, name), 'utf8') })));
  }

  async #ensureSource(key: string): Promise<string> {
    const source = join(this.#cache, `source-${key}`);
    await this.#once(source, async (partial, lock) => {
      this.#progress.step(`unpacking ${this.#tarball}`);
      await rm(partial, { recursive: true, force: true });
      await mkdir(partial);
      const exclude = UNUSED_SOURCES.map((pattern) => `--exclude=${pattern}`);
      await this.#run('tar', ['-xf', this.#tarball, '-C', partial, '--strip-components=1', ...exclude], partial, lock);
    });
    return source;
  }

  async #buildKernel(source: string, partial: string, config: string, lock: Lock): Promise<void> {
    const { arch, target, steps } = this.#recipe;
    await mkdir(partial, { recursive: true });
    const allconfig = join(partial, 'lab.config');
    await writeFile(allconfig, config);

    this.#progress.step(`configuring the ${this.#machine} kernel`);
    const make = ['-C', source, `ARCH=${arch}`, `O=${partial}`];
    await this.#run('make', [...make, `KCONFIG_ALLCONFIG=${allconfig}`, 'allnoconfig'], partial, lock);
    await checkConfig(config, join(partial, '.config'));

    this.#progress.step(`compiling the ${this.#machine} kernel (log: ${partial}.log)`);
    this.#progress.expect(`${this.#machine} kernel`, steps);
    await this.#run('make', [...make, `-j${availableParallelism()}`, target, 'modules'], partial, lock);
    await removeObjects(partial);
  }

  async #buildModules(
    source: string,
    build: string,
    partial: string,
    sources: readonly { readonly name: string; readonly text: string }[],
    lock: Lock,
  ): Promise<void> {
    this.#progress.step(`compiling the modules for ${this.#machine}`);
    const work = `${partial}.work`;
    for (const dir of [work, partial]) {
      await rm(dir, { recursive: true, force: true });
      await mkdir(dir);
    }
    await Promise.all(sources.map(({ name, text }) => writeFile(join(work, name), text)));

    const patched = join(work, 'dummy_hcd_sg.c');
    await copyFile(join(source, 'drivers/usb/gadget/udc/dummy_hcd.c'), patched);
    for (const { name } of sources.filter((file) => file.name.endsWith('.patch'))) {
      await this.#run('patch', ['--forward', '--input', join(work, name), patched], partial, lock);
    }

    const make = ['-C', source, `ARCH=${this.#recipe.arch}`, `O=${build}`, `M=${work}`];
    await this.#run('make', [...make, `-j${availableParallelism()}`, 'modules'], partial, lock);

    for (const name of LAB_MODULES) {
      const folder = STOCK_MODULE_FOLDERS[name];
      const file = `${name}.ko`;
      await copyFile(folder === undefined ? join(work, file) : join(build, folder, file), join(partial, file));
    }
    await rm(work, { recursive: true });
  }

  /**
   * Makes `path` unless it is there. It appears under its name when it is complete; until then it is `path.partial`, in
   * which an interrupted build of the same content goes on.
   */
  async #once(path: string, make: (partial: string, lock: Lock) => Promise<void>): Promise<void> {
    if (existsSync(path)) {
      return;
    }
    const partial = `${path}.partial`;
    await using lock = await Lock.acquire(`${path}.lock`, (owner) =>
      this.#progress.step(`waiting for process ${owner}, which builds ${path}`),
    );
    if (existsSync(path)) {
      return;
    }
    const start = Date.now();
    await rm(`${partial}.log`, { force: true });
    await make(partial, lock);
    await rename(partial, path);
    await rm(`${partial}.log`, { force: true });
    this.#progress.done(`${path} made in ${Math.round((Date.now() - start) / 1000)} s`);
  }

  /** Runs a command with its output in `partial.log`. It holds the lock too, lest it outlives us alone. */
  async #run(command: string, args: readonly string[], partial: string, lock: Lock): Promise<void> {
    const logPath = `${partial}.log`;
    await using log = await open(logPath, 'a');
    // Kbuild listens to many variables (ARCH, LLVM, KCONFIG_*, MAKEFLAGS): only what is named here counts.
    const { PATH, HOME, TMPDIR } = process.env;
    const child = spawn(command, args, {
      stdio: ['ignore', 'pipe', log.fd, lock.fd],
      env: { PATH, HOME, TMPDIR, LC_ALL: 'C' },
    });
    const ended = exitCode(child);
    for await (const line of linesOf(child)) {
      await log.appendFile(`${line}\n`);
      // Kbuild's "  CC      fs/open.o"; all else is make's own talk.
      if (/^ {2}[A-Z]/.test(line)) {
        this.#progress.count();
      }
    }
    const code = await ended;
    if (code !== 0) {
      const tail = (await readFile(logPath, 'utf8')).trimEnd().split('\n').slice(-LOG_TAIL_LINES);
      throw new IioError(
        'LAB_BUILD_FAILED',
        `${command} failed (${code}); the last lines of ${logPath}:\n${tail.join('\n')}`,
      );
    }
  }
}

/** What the user sees of a build: one line that changes on a terminal, else a line now and then. */
class Progress {
  readonly #log: (line: string) => void;
  readonly #live: boolean;
  #what = '';
  #steps = 0;
  #counted = 0;
  #lastShown = 0;

  constructor(log: ((line: string) => void) | undefined) {
    this.#live = log === undefined && process.stderr.isTTY;
    this.#log = log ?? ((line) => process.stderr.write(`${line}\n`));
  }

  step(title: string): void {
    this.#steps = 0;
    this.#lastShown = Date.now();
    this.#show(title);
  }

  /** From now on, every {@link count} is one of about `steps`. */
  expect(what: string, steps: number): void {
    this.#what = what;
    this.#steps = steps;
    this.#counted = 0;
  }

  count(): void {
    this.#counted++;
    if (this.#steps === 0 || (!this.#live && Date.now() - this.#lastShown < PROGRESS_INTERVAL_MS)) {
      return;
    }
    this.#lastShown = Date.now();
    const total = Math.max(this.#steps, this.#counted);
    this.#show(`${this.#what}: ${this.#counted} of about ${total} files`);
  }

  done(line: string): void {
    this.#clear();
    this.#log(line);
  }

  #show(line: string): void {
    if (this.#live) {
      this.#clear();
      process.stderr.write(line.slice(0, (process.stderr.columns ?? 80) - 1));
    } else {
      this.#log(line);
    }
  }

  #clear(): void {
    if (this.#live) {
      process.stderr.write('\r\x1b[K');
    }
  }
}

/**
 * An exclusive flock(2) on a file that holds the owner's pid. It belongs to the open file description, so that the
 * kernel releases it when the last process that has it is gone, however that ended: it cannot be stale.
 */
class Lock {
  readonly #file: FileHandle;

  private constructor(file: FileHandle) {
    this.#file = file;
  }

  /** `waiting` is told the present owner if there is one. */
  static async acquire(path: string, waiting: (owner: string) => void): Promise<Lock> {
    const file = await open(path, 'a+');
    try {
      if ((await flock(file.fd, ['--nonblock'])) !== 0) {
        waiting((await readFile(path, 'utf8')).trim());
        const code = await flock(file.fd, []);
        if (code !== 0) {
          throw new IioError('LAB_BUILD_FAILED', `flock ${path} failed (${code})`);
        }
      }
      await file.truncate(0);
      await file.appendFile(`${process.pid}\n`);
      return new Lock(file);
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  get fd(): number {
    return this.#file.fd;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file.close();
  }
}

/** Node has no flock(2); util-linux's program locks a descriptor that it shares with us. */
async function flock(fd: number, options: readonly string[]): Promise<number> {
  return await exitCode(
    spawn('flock', [...options, '--exclusive', '3'], { stdio: ['ignore', 'ignore', 'inherit', fd] }),
  );
}

async function exitCode(child: ChildProcess): Promise<number> {
  return await new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => {
      resolve(code ?? (signal === null ? 1 : 128));
    });
  });
}

function linesOf(child: ChildProcess): AsyncIterable<string> {
  if (child.stdout === null) {
    throw new TypeError('a child without a pipe for its output');
  }
  return createInterface({ input: child.stdout });
}

/** What a command prints; empty if the command fails or does not exist. */
function capture(command: string, args: readonly string[]): string {
  const { status, stdout } = spawnSync(command, args, { encoding: 'utf8' });
  return status === 0 ? stdout.trim() : '';
}

async function isInPath(tool: string): Promise<boolean> {
  const { PATH = '' } = process.env;
  for (const dir of PATH.split(delimiter)) {
    const found = await access(join(dir, tool), constants.X_OK).then(
      () => true,
      () => false,
    );
    if (found) {
      return true;
    }
  }
  return false;
}

/** Kconfig drops a line whose dependencies are not met without a word. */
async function checkConfig(wanted: string, configPath: string): Promise<void> {
  const settings = (text: string): Map<string, string> =>
    new Map(
      [...text.matchAll(/^(?:# )?(CONFIG_\w+)(?:=(.*)| is not set)$/gm)].map((match) => [
        match[1] ?? '',
        match[2] ?? 'n',
      ]),
    );
  const actual = settings(await readFile(configPath, 'utf8'));
  const dropped = [...settings(wanted)].filter(([name, value]) => (actual.get(name) ?? 'n') !== value);
  if (dropped.length > 0) {
    const lines = dropped.map(([name, value]) => `${name}=${value} (is ${actual.get(name) ?? 'n'})`);
    throw new IioError(
      'LAB_BUILD_FAILED',
      `the kernel's configuration does not take ${lines.join(', ')}; see lab/kernel/config`,
    );
  }
}

/** Objects are four fifths of a build, and modules can be built without them. */
async function removeObjects(build: string): Promise<void> {
  const entries = await readdir(build, { withFileTypes: true, recursive: true });
  const doomed = entries
    .filter((entry) => entry.isFile() && /\.(o|a|cmd)$/.test(entry.name))
    .map((entry) => join(entry.parentPath, entry.name))
    .filter((path) => !/^(scripts|tools)\//.test(path.slice(build.length + 1)));
  for (const path of doomed) {
    await rm(path);
  }
}

function hash(parts: readonly string[]): string {
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 12);
}

/** The repository's root: this file runs both from `lab` and, compiled, from `dist/lab`. */
function findRoot(): string {
  const here = dirname(fileURLToPath(import.meta.url));
  for (const root of [join(here, '..'), join(here, '..', '..')]) {
    if (existsSync(join(root, 'lab', 'kernel', 'modules', 'Kbuild'))) {
      return root;
    }
  }
  throw new IioError('LAB_BUILD_FAILED', `no lab/kernel near ${here}: run from a checkout of the repository`);
}

function readPackages(): Record<'common' | LabMachine, readonly string[]> {
  const parsed: unknown = JSON.parse(readFileSync(join(findRoot(), 'lab', 'apt-packages.json'), 'utf8'));
  const lists = new Map(Object.entries(parsed ?? {}));
  const list = (name: string): readonly string[] => {
    const packages: unknown = lists.get(name);
    return Array.isArray(packages) ? packages.map(String) : [];
  };
  return { common: list('common'), uml: list('uml'), qemu: list('qemu'), 'qemu-debug': list('qemu-debug') };
}

async function main(args: readonly string[]): Promise<void> {
  const machines = LAB_MACHINES.filter((machine) => args.includes(machine));
  if (machines.length === 0 || machines.length < args.length) {
    throw new IioError('EINVAL', `usage: build.js ${LAB_MACHINES.map((machine) => `[${machine}]`).join(' ')}`);
  }
  for (const machine of machines) {
    console.log(JSON.stringify(await ensureLab(machine), null, 2));
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    await main(process.argv.slice(2));
  } catch (error) {
    console.error(error instanceof IioError ? `${error.code}: ${error.message}` : error);
    process.exitCode = 1;
  }
}
