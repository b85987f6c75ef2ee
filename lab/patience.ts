import process from 'node:process';

/** On a busy computer: the environment variable LAB_PATIENCE multiplies every time-out of the lab and of its tests. */
export function patience(): number {
  const factor = Number(process.env['LAB_PATIENCE'] ?? 1);
  return factor >= 1 ? factor : 1;
}
