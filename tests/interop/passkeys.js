// `query` sends a request of the API and gives the `result` of its answer.

async function addPasskey(query, name) {
  const request = { controller: "auth", action: "createMyCredentials", strategy: "passkey" };
  const { challenge, state } = await query({ ...request, body: {} });
  const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON(challenge);
  const credential = await navigator.credentials.create({ publicKey });
  return query({ ...request, body: { state, credential: credential.toJSON(), name } });
}

async function logInByPasskey(query) {
  const request = { controller: "auth", action: "login", strategy: "passkey" };
  const { challenge, state } = await query({ ...request, body: {} });
  const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(challenge);
  const credential = await navigator.credentials.get({ publicKey });
  return query({ ...request, body: { state, credential: credential.toJSON() } });
}
