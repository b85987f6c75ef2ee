import { fileURLToPath } from 'node:url';
import { runInNewContext } from 'node:vm';
import { build } from 'esbuild';
import { describe, expect, it } from 'vitest';

const ENTRY = fileURLToPath(new URL('../../../host-client/src/browser.ts', import.meta.url));

/** esbuild refuses what it cannot resolve, and with `platform: 'browser'` that includes Node's own modules. */
async function bundle(contents: string) {
  return await build({
    stdin: { contents, resolveDir: fileURLToPath(new URL('.', import.meta.url)), loader: 'ts' },
    bundle: true,
    write: false,
    metafile: true,
    platform: 'browser',
    format: 'esm',
    target: 'es2022',
    logLevel: 'silent',
  });
}

describe('the browser entry', () => {
  it('is free of Node: it bundles for a browser, and brings nothing but itself, the protocol and two libraries', async () => {
    const { metafile, outputFiles } = await bundle(`export * from ${JSON.stringify(ENTRY)};`);
    const packages = new Set(
      Object.keys(metafile.inputs).flatMap((path) => /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(path)?.[1] ?? []),
    );
    expect([...packages].filter((name) => name === 'usb' || name === 'bonjour-service')).toEqual([]);
    expect(packages).toContain('fzstd');
    const [{ text } = { text: '' }] = outputFiles;
    expect(text).not.toMatch(/\bfrom\s*["']node:|require\(/);
    expect(text).toContain('WebUsbTransport');
  });

  it('would not pass with a Node module', async () => {
    await expect(bundle("export { connect } from 'node:net';")).rejects.toThrow(/node:net/);
  });

  it('works where there is neither Buffer nor process', async () => {
    const { outputFiles } = await bundle(
      `import { Context } from ${JSON.stringify(ENTRY)};
       const xml = '<context name="x"><device id="iio:device0" name="adc"><attribute name="a"/></device></context>';
       const context = Context.fromXml(xml);
       globalThis.done = context.device('adc').attribute('a').read().catch((error) => error.code);`,
    );
    const global: { done?: Promise<string> } = {};
    runInNewContext(outputFiles[0]?.text ?? '', Object.assign(global, { TextDecoder, TextEncoder, AbortController }));
    expect(await global.done).toBe('OFFLINE');
  });
});
