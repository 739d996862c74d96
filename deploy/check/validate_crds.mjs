// Checks custom resources by their schemas: reads a JSON list of objects from standard input, writes a line per error.
// Run from a copy beside the node_modules with the packages of package.json.
import { readFileSync } from "node:fs";

const PACKAGES = {
  "keda.sh": "@kubernetes-models/keda",
  "monitoring.coreos.com": "@kubernetes-models/prometheus-operator",
  "gateway.networking.k8s.io": "@kubernetes-models/gateway-api",
};

async function errorOf(object) {
  const [group] = object.apiVersion.split("/");
  const name = `${object.apiVersion}/${object.kind}`;
  if (!(group in PACKAGES)) return `no schema for ${name}`;
  try {
    const module = await import(`${PACKAGES[group]}/${name}`);
    new module[object.kind](object).validate();
  } catch (error) {
    return `${name}: ${error.message}`;
  }
  return null;
}

const errors = (await Promise.all(JSON.parse(readFileSync(0, "utf-8")).map(errorOf))).filter((error) => error !== null);
errors.forEach((error) => console.log(error));
process.exit(errors.length ? 1 : 0);
