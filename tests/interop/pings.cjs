// pings.cjs PORT: shows that the SDK's two kinds of ping are answered.
const { WebSocket } = require("kuzzle-sdk");
const { once } = require("node:events");

// Newer Nodes have a browser's WebSocket, which can't ping; without it the SDK takes the package ws.
delete globalThis.WebSocket;

async function ping(port) {
  // The answer has as long as it takes to the next ping.
  const protocol = new WebSocket("127.0.0.1", { port, pingInterval: 1000, autoReconnect: false });
  await protocol.connect();
  await once(protocol.client, "pong");
  const answered = once(protocol.client, "message");
  protocol.client.send('{"p":1}');
  const [message] = await answered;
  protocol.close();
  return { frame: true, message: JSON.parse(message) };
}

ping(Number(process.argv[2])).then((seen) => console.log(JSON.stringify(seen)));
