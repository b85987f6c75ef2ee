import { readdirSync, readFileSync } from 'node:fs';
import { expect, it } from 'vitest';

const CORE = new URL('../../../host-client/src/core/', import.meta.url);

it('the core imports nothing that a browser lacks', () => {
  const files = readdirSync(CORE).filter((name) => name.endsWith('.ts'));
  expect(files.length).toBeGreaterThan(8);
  for (const name of files) {
    const source = readFileSync(new URL(name, CORE), 'utf8');
    const imports = [...source.matchAll(/from '([^']+)'/g)].map((match) => match[1] ?? '');
    const outside = imports.filter(
      (path) => !path.startsWith('./') && !['@iio-bridge/protocol', 'fzstd'].includes(path),
    );
    expect([name, outside]).toEqual([name, []]);
    expect(source).not.toMatch(/\b(Buffer|process)\./);
  }
});
