// node build.mjs APP WIT WORLD GUEST [BEFORE]: makes the component GUEST of the script APP and of the packages that it imports, for a
// world of the folder WIT; nothing, if BEFORE is a guest that was made of the same.
import { componentize } from '@bytecodealliance/componentize-js';
import { build } from 'esbuild';
import { createHash } from 'node:crypto';
import { cp, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const [app, wit, worldName, guest, before = ''] = process.argv.slice(2);
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
const madeOf = createHash('sha256');
// The tools themselves, as far as they are locked, and the bundle.
for (const path of ['package-lock.json', sourcePath]) madeOf.update(await readFile(path).catch(() => ''));
for (const file of (await readdir(witPath, { recursive: true })).sort()) {
  if (!file.endsWith('.wit')) continue;
  const path = join(witPath, file);
  const text = (await readFile(path, 'utf8')).replaceAll('0.2.12', WASI);
  await writeFile(path, text);
  madeOf.update(text);
}
// A custom section of the component, which everybody else ignores: 49 bytes, of which 16 are its name.
const section = Buffer.concat([Buffer.from('\0\x31\x10flexwasm:sources'), madeOf.update(worldName).digest()]);
const built = await readFile(before).catch(() => Buffer.alloc(0));
if (!built.subarray(-section.length).equals(section)) {
  const { component } = await componentize({ sourcePath, witPath, worldName });
  await writeFile(guest, Buffer.concat([component, section]));
}
await rm(workshop, { recursive: true });
