// remote.cjs TRANSPORT PORT: an application that does what each line of its stdin says.
//
// A line is {"call": "auth.login", "args": […]}. Printed are a line for each outcome, {"result"} or
// {"error"}, and one for each event of the SDK, {"event"}.
const sdk = require("kuzzle-sdk");
const { createInterface } = require("node:readline");

const [transport, port] = process.argv.slice(2);
const Protocol = transport === "http" ? sdk.Http : sdk.WebSocket;
// A ping that is not answered before the next one counts as the end of a connection.
const options = { port: Number(port), pingInterval: 30000, reconnectionDelay: 50 };
const kuzzle = new sdk.Kuzzle(new Protocol("127.0.0.1", options));
const print = (line) => console.log(JSON.stringify(line));

const EVENTS = "disconnected reAuthenticated reconnected reconnectionError tokenExpired";
for (const event of EVENTS.split(" ")) {
  kuzzle.on(event, () => print({ event }));
}

// What an application does besides calling the SDK.
const own = {
  setToken(token) {
    kuzzle.jwt = token;
  },
  setAuthenticator(...login) {
    kuzzle.authenticator = async () => {
      print({ event: "authenticator" });
      await kuzzle.auth.login(...login);
    };
  },
  async who() {
    return (await kuzzle.auth.getCurrentUser())._id;
  },
  state() {
    return { token: kuzzle.jwt, authenticated: kuzzle.authenticated, connected: kuzzle.connected };
  },
};

async function run({ call, args }) {
  if (call in own) {
    return own[call](...args);
  }
  const path = call.split(".");
  const name = path.pop();
  return path.reduce((part, member) => part[member], kuzzle)[name](...args);
}

async function obey() {
  for await (const line of createInterface({ input: process.stdin })) {
    try {
      print({ result: (await run(JSON.parse(line))) ?? null });
    } catch (error) {
      print({ error: { id: error.id ?? null, status: error.status ?? null } });
    }
  }
  process.exit();
}

obey();
