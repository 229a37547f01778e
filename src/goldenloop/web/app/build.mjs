// Builds the page into ../static (or the folder given after --out). The same sources and lockfile give the same bytes,
// which is what the check in tests/web relies on.
import { createHash } from "node:crypto";
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const flag = process.argv.indexOf("--out");
const out = flag === -1 ? resolve(here, "../static") : resolve(process.argv[flag + 1]);
mkdirSync(out, { recursive: true });

await build({
  absWorkingDir: here,
  entryPoints: { app: "src/main.tsx" },
  bundle: true,
  minify: true,
  format: "esm",
  target: ["es2022"],
  jsx: "automatic",
  jsxImportSource: "preact",
  legalComments: "none", // the licences of what is bundled stand in third-party.txt
  external: ["*.woff2"],
  outdir: out,
  logLevel: "warning",
});

// The latin part of Inter, variable weight: one file, served from the same origin.
copyFileSync(join(here, "node_modules/@fontsource-variable/inter/files/inter-latin-wght-normal.woff2"), join(out, "inter.woff2"));
copyFileSync(join(here, "src/favicon.svg"), join(out, "favicon.svg"));

// Script and style carry a digest in their address, so that a browser never mixes two releases.
let html = readFileSync(join(here, "src/index.html"), "utf8");
for (const name of ["app.js", "app.css"]) {
  const digest = createHash("sha256").update(readFileSync(join(out, name))).digest("hex").slice(0, 10);
  html = html.replace(name, `${name}?v=${digest}`);
}
writeFileSync(join(out, "index.html"), html);

const bundled = ["preact", "@preact/signals", "@preact/signals-core", "uplot", "@fontsource-variable/inter"];
const notices = bundled.map((name) => {
  const folder = join(here, "node_modules", name);
  const { version } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  return `${name} ${version}\n\n${readFileSync(join(folder, "LICENSE"), "utf8").trim()}\n`;
});
const head = "The page of goldenloop contains these works under their own licences.\n";
writeFileSync(join(out, "third-party.txt"), [head, ...notices].join(`\n${"-".repeat(80)}\n\n`));
