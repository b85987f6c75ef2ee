import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';

const HOST_CLIENT = fileURLToPath(new URL('../../../host-client/', import.meta.url));

it('the reference of the API is generated without a warning', { timeout: 300_000 }, async () => {
  // The configuration makes errors of warnings.
  const typedoc = `${HOST_CLIENT}node_modules/typedoc/bin/typedoc`;
  const { stderr } = await promisify(execFile)(process.execPath, [typedoc, '--emit', 'none'], { cwd: HOST_CLIENT });
  expect(stderr).toBe('');
});
