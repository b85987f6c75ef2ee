// Makes one file of each program that starts on the device or in a guest of the lab: a start from a few hundred modules takes
// twice as long. The compiler's output stays what tests and readers import.
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { build } from 'esbuild';

/** They find their binaries by their own place, so they stay where npm put them. */
const EXTERNAL = ['koffi', 'node-gyp-build', 'usb'];

/** Name in `dist/bundle` → the compiled program. */
function entryPoints(root) {
  const programs = readdirSync(join(root, 'dist/lab/programs')).filter((name) => name.endsWith('.js'));
  return {
    'iio-bridge': 'dist/src/bridge/main.js',
    'iio-client': 'host-client/dist/cli/main.js',
    'lab-agent': 'dist/lab/agent.js',
    'demo-guest': 'dist/demo/guest.js',
    'bench-client': 'dist/bench/stream-client.js',
    conformance: 'dist/test/conformance/main.js',
    ...Object.fromEntries(programs.map((name) => [basename(name, '.js'), `dist/lab/programs/${name}`])),
  };
}

function readIfThere(path) {
  try {
    return readFileSync(path);
  } catch (error) {
    if (error.code === 'ENOENT') {
      return undefined;
    }
    throw error;
  }
}

/** Writes what has changed, so that a guest that runs keeps its files. */
export async function bundle(root) {
  const folder = join(root, 'dist/bundle');
  const { outputFiles } = await build({
    absWorkingDir: root,
    entryPoints: entryPoints(root),
    outdir: folder,
    bundle: true,
    // What is imported when it is needed stays apart, and so does what programs share.
    splitting: true,
    chunkNames: 'shared/[name]-[hash]',
    platform: 'node',
    target: 'node20',
    format: 'esm',
    external: EXTERNAL,
    // For the CommonJS modules in the bundle.
    banner: {
      js: "import { createRequire as requireOf } from 'node:module'; const require = requireOf(import.meta.url);",
    },
    write: false,
    logLevel: 'silent',
  });
  for (const { path, contents } of outputFiles) {
    if (readIfThere(path)?.equals(contents) !== true) {
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, contents);
    }
  }
  const written = new Set(outputFiles.map(({ path }) => path));
  for (const name of readdirSync(folder, { recursive: true })) {
    const path = join(folder, name);
    if (name.endsWith('.js') && !written.has(path)) {
      rmSync(path);
    }
  }
}
