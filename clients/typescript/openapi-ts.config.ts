import { defineConfig } from "@hey-api/openapi-ts";

export default defineConfig({
  input: "../../openapi/admin.json",
  output: { path: "generated", importFileExtension: ".ts" },
  plugins: ["@hey-api/client-fetch", "@hey-api/typescript", "@hey-api/sdk"],
});
