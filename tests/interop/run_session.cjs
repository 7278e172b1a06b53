// run_session.cjs TRANSPORT PORT USERNAME PASSWORD: prints what session.js saw.
const sdk = require("kuzzle-sdk");
const { session } = require("./session.js");

const [transport, port, username, password] = process.argv.slice(2);

session(sdk, transport, Number(port), username, password).then((seen) =>
  console.log(JSON.stringify(seen)),
);
