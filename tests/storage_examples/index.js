export default {
  "task-name": "./task-name/index.js",
  research: "./research/index.js",
  analysis: "./analysis/index.js",
  synthesis: "./synthesis/index.js",
  formatting: "./formatting/index.js",
};
