// Prepares a checkout: what `npm run build`, `demo`, `bench` and `test` need, and nothing that is there already.
// Plain JavaScript on Node's own modules, because it runs before `npm ci`.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import process from 'node:process';
import { fileURLToPath, pathToFileURL } from 'node:url';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..');
const OLDEST_NODE = 20;

/** Target → the lab machines whose kernels it wants, and the Debian packages of the tests. */
const TARGETS = {
  build: { machines: [], packages: [] },
  uml: { machines: ['uml'], packages: [] },
  // The framework of the data plane's own tests.
  native: { machines: [], packages: ['doctest-dev'] },
  // And libiio's own programs and its Python binding, which the tests run against the bridge, and its server, to which the
  // bridge is compared.
  all: { machines: ['uml', 'qemu'], packages: ['doctest-dev', 'libiio-utils', 'libiio-dev', 'python3-libiio', 'iiod'] },
  debug: { machines: ['qemu-debug'], packages: [] },
};

/** For the addon (node-gyp) and the C programs of the benchmark. `libudev1` is what npm's `usb` binary links to. */
const BUILD_PACKAGES = ['g++', 'make', 'python3', 'libudev1', 'libusb-1.0-0-dev'];
const BUILD_COMMANDS = ['g++', 'make', 'python3'];

class SetupError extends Error {}

const startedAt = Date.now();
let didSomething = false;

function progress(text) {
  didSomething = true;
  const seconds = ((Date.now() - startedAt) / 1000).toFixed(0).padStart(3);
  process.stderr.write(`setup ${seconds} s  ${text}\n`);
}

/** Runs a command to its end. Its output is shown only if it fails. */
function run(what, command, args, options = {}) {
  const result = spawnSync(command, args, {
    cwd: ROOT,
    encoding: 'utf8',
    maxBuffer: 256 * 1024 * 1024,
    stdio: ['ignore', 'pipe', 'pipe'],
    ...options,
  });
  if (result.error !== undefined) {
    throw new SetupError(`${what} failed: cannot run ${command}: ${result.error.message}`);
  }
  if (result.status !== 0) {
    const ending = result.signal === null ? `exit code ${result.status}` : result.signal;
    throw new SetupError(`${result.stdout}${result.stderr}\n${what} failed (${ending}): ${command} ${args.join(' ')}`);
  }
  return result.stdout;
}

function readJson(path) {
  return JSON.parse(readFileSync(path, 'utf8'));
}

function checkPlatform() {
  const major = Number.parseInt(process.versions.node, 10);
  if (major < OLDEST_NODE) {
    throw new SetupError(
      `Node.js ${OLDEST_NODE} or later is needed, this is ${process.version}: see https://nodejs.org/en/download`,
    );
  }
  if (process.platform !== 'linux') {
    throw new SetupError(
      `The bridge and its lab need Linux, this is ${process.platform}. The client alone builds with: npm ci && npx tsc -b host-client`,
    );
  }
}

function isInstalledCommand(name) {
  return spawnSync('sh', ['-c', `command -v "$1"`, 'sh', name]).status === 0;
}

function missingAptPackages(packages) {
  const query = spawnSync('dpkg-query', ['-W', '-f', `\${Package} \${db:Status-Status}\n`, ...packages], {
    encoding: 'utf8',
  });
  if (query.error !== undefined) {
    const missing = BUILD_COMMANDS.filter((name) => !isInstalledCommand(name));
    if (missing.length > 0) {
      throw new SetupError(
        `${missing.join(', ')} not found. This system has no dpkg: install what corresponds to Debian's packages ${packages.join(' ')}`,
      );
    }
    return [];
  }
  const installed = new Set(
    query.stdout
      .split('\n')
      .filter((line) => line.endsWith(' installed'))
      .map((line) => line.split(' ')[0]),
  );
  return packages.filter((name) => !installed.has(name));
}

function installAptPackages(extra, machines) {
  const packages = [...BUILD_PACKAGES, ...extra, ...machines.flatMap(labPackages)];
  const missing = missingAptPackages([...new Set(packages)]);
  if (missing.length === 0) {
    return;
  }
  if (process.getuid() !== 0) {
    throw new SetupError(
      `Packages are missing. Run: sudo apt-get install -y --no-install-recommends ${missing.join(' ')}`,
    );
  }
  progress(`installing Debian packages: ${missing.join(' ')}`);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  run('Updating the package lists', 'apt-get', ['update', '-q'], { env });
  run('Installing packages', 'apt-get', ['install', '-q', '-y', '--no-install-recommends', ...missing], { env });
}

/** The packages that a lab machine needs, beside those of `common`: lab/apt-packages.json. */
function labPackages(machine) {
  const lists = readJson(join(ROOT, 'lab/apt-packages.json'));
  return [...(lists.common ?? []), ...(lists[machine] ?? [])];
}

/** Whether node_modules is what package-lock.json says. npm keeps a lockfile of what it installed. */
function isTreeInstalled() {
  const recordPath = join(ROOT, 'node_modules/.package-lock.json');
  if (!existsSync(recordPath)) {
    return false;
  }
  const wanted = readJson(join(ROOT, 'package-lock.json')).packages;
  const present = readJson(recordPath).packages;
  return Object.entries(wanted).every(
    ([path, entry]) => path === '' || entry.optional === true || present[path]?.version === entry.version,
  );
}

function installNpmPackages() {
  if (isTreeInstalled()) {
    return;
  }
  progress('installing npm packages');
  const { npm_execpath: npm } = process.env;
  const args = ['ci', '--ignore-scripts', '--no-audit', '--no-fund'];
  if (npm === undefined) {
    run('npm ci', 'npm', args);
  } else {
    run('npm ci', process.execPath, [npm, ...args]);
  }
}

function newestChange(folder, skipped) {
  let newest = 0;
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) {
      newest = skipped.includes(entry.name) ? newest : Math.max(newest, newestChange(path, skipped));
    } else {
      newest = Math.max(newest, statSync(path).mtimeMs);
    }
  }
  return newest;
}

function isAddonFresh() {
  const folder = join(ROOT, 'native/build/Release');
  if (!existsSync(folder)) {
    return false;
  }
  const built = readdirSync(folder)
    .filter((name) => name.endsWith('.node'))
    .map((name) => statSync(join(folder, name)).mtimeMs);
  return built.length > 0 && Math.min(...built) > newestChange(join(ROOT, 'native'), ['build', 'test']);
}

function buildAddon() {
  if (isAddonFresh()) {
    return;
  }
  progress('building the native addon');
  const nodeGyp = join(ROOT, 'node_modules/node-gyp/bin/node-gyp.js');
  const args = [nodeGyp, 'rebuild', '-C', 'native'];
  // Node's headers usually lie beside its binary; with them, node-gyp downloads nothing.
  const prefix = join(dirname(process.execPath), '..');
  if (existsSync(join(prefix, 'include/node/node_api.h'))) {
    args.push(`--nodedir=${prefix}`);
  }
  run('Building the native addon', process.execPath, args);
}

/** The compiler knows best what is out of date, and takes half a second to find out that nothing is. */
function compile() {
  run('Compiling', process.execPath, [join(ROOT, 'node_modules/typescript/bin/tsc'), '-b']);
}

async function bundlePrograms() {
  const { bundle } = await import('./bundle.mjs');
  await bundle(ROOT);
}

async function buildLab(machines) {
  if (machines.length === 0) {
    return;
  }
  const { ensureLab } = await import(pathToFileURL(join(ROOT, 'dist/lab/build.js')).href);
  for (const machine of machines) {
    await ensureLab(machine, { log: progress });
  }
}

async function main() {
  const [target = 'all', ...rest] = process.argv.slice(2);
  if (rest.length > 0 || !Object.hasOwn(TARGETS, target)) {
    const script = relative(process.cwd(), fileURLToPath(import.meta.url));
    throw new SetupError(`usage: node ${script} [${Object.keys(TARGETS).join('|')}]`);
  }
  const { machines, packages } = TARGETS[target];
  checkPlatform();
  installAptPackages(packages, machines);
  installNpmPackages();
  buildAddon();
  compile();
  await bundlePrograms();
  await buildLab(machines);
  if (didSomething) {
    progress('ready');
  }
}

try {
  await main();
} catch (error) {
  if (error instanceof SetupError) {
    process.stderr.write(`${error.message.trim()}\n`);
  } else {
    process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`);
  }
  process.exitCode = 1;
}
