import { readFileSync } from 'node:fs';
import { conformance, type Expectations } from './suite.js';

/**
 * Runs the suite where no test runner is, as in a guest of the lab: `main.js URI EXPECTATIONS.json`. Prints a line of JSON
 * per case: `{"name", "error"?}`.
 */
const [uri = 'usb:', path = ''] = process.argv.slice(2);
const expectations: Expectations = JSON.parse(readFileSync(path, 'utf8'));
for (const { name, run } of conformance(uri, expectations)) {
  try {
    await run();
    console.log(JSON.stringify({ name }));
  } catch (error) {
    console.log(
      JSON.stringify({ name, error: error instanceof Error ? (error.stack ?? error.message) : String(error) }),
    );
    process.exitCode = 1;
  }
}
