// node build.mjs APP WIT WORLD GUEST: makes the component GUEST of the script APP and of the packages that it imports, for a
// world of the folder WIT.
import { componentize } from '@bytecodealliance/componentize-js';
import { build } from 'esbuild';
import { cp, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const [app, wit, worldName, guest] = process.argv.slice(2);
const workshop = await mkdtemp(join(tmpdir(), 'guest-'));
const [sourcePath, witPath] = [join(workshop, 'app.js'), join(workshop, 'wit')];
await build({
  entryPoints: [app],
  outfile: sourcePath,
  bundle: true,
  format: 'esm',
  target: 'es2023',
  // What the host gives is imported by the component.
  external: ['flexwasm:*', 'wasi:*'],
  // Packages are installed beside this script, wherever the app lies.
  nodePaths: [join(dirname(fileURLToPath(import.meta.url)), 'node_modules')],
});
await cp(wit, witPath, { recursive: true });
// The engine was built for this version of WASI and looks for interfaces of no other. The host links every 0.2.
const WASI = '0.2.10';
for (const file of await readdir(witPath, { recursive: true })) {
  if (!file.endsWith('.wit')) continue;
  const path = join(witPath, file);
  await writeFile(path, (await readFile(path, 'utf8')).replaceAll('0.2.12', WASI));
}
const { component } = await componentize({ sourcePath, witPath, worldName });
await writeFile(guest, component);
await rm(workshop, { recursive: true });
