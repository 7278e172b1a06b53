// A certified provider of OpenID Connect, where everybody is Ann and agrees to everything.
// Arguments: the host of its address, and where the one application it knows is called back.
const http = require("node:http");

const [host, callback] = process.argv.slice(2);

async function main() {
  const { Provider } = await import("oidc-provider");
  const server = http.createServer();
  await new Promise((done) => server.listen(0, host, done));
  const issuer = `http://${host}:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: [{ client_id: "the-application", client_secret: "the secret", redirect_uris: [callback] }],
    claims: { email: ["email", "email_verified"], openid: ["sub"], profile: ["name"] },
    cookies: { keys: ["a key of the test's"] },
    features: { devInteractions: { enabled: false } },
    findAccount: (_, accountId) => ({
      accountId,
      claims: () => ({ sub: accountId, email: "ann@mail.test", email_verified: true }),
    }),
    interactions: { url: (_, interaction) => `/enter/${interaction.uid}` },
    loadExistingGrant: async ({ oidc }) => {
      const owner = { accountId: oidc.session.accountId, clientId: oidc.client.clientId };
      const grant = new oidc.provider.Grant(owner);
      grant.addOIDCScope("openid email profile");
      await grant.save();
      return grant;
    },
    pkce: { required: () => true },
  });
  const answer = provider.callback();
  server.on("request", (request, response) => {
    if (!request.url.startsWith("/enter/")) return answer(request, response);
    return provider.interactionFinished(request, response, { login: { accountId: "ann" } });
  });
  console.log(issuer);
}

main();
