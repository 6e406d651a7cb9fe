// A real OpenID provider (npm oidc-provider) on loopback, with GA4GH passports in userinfo, for weft's tests.
//   node provider.mjs AUDIENCE      prints its issuer when it is ready
import { createServer } from 'node:http';
import { Provider } from 'oidc-provider';
import { exportJWK, generateKeyPair, SignJWT } from 'jose';

const audience = process.argv[2];
const pair = await generateKeyPair('RS256', { extractable: true });
const key = { ...(await exportJWK(pair.privateKey)), alg: 'RS256', use: 'sig', kid: 'real-1' };

const server = createServer();
await new Promise((ready) => server.listen(0, '127.0.0.1', ready));
const issuer = `http://127.0.0.1:${server.address().port}`;

const now = () => Math.floor(Date.now() / 1000);
const visa = (subject) => new SignJWT({
  ga4gh_visa_v1: {
    type: 'ControlledAccessGrants', asserted: now() - 60, value: 'https://example.org/datasets/1',
    source: 'https://example.org/dac', by: 'dac',
  },
})
  .setProtectedHeader({ alg: 'RS256', kid: key.kid, typ: 'vnd.ga4gh.visa+jwt', jku: `${issuer}/jwks` })
  .setIssuer(issuer).setSubject(subject).setIssuedAt().setExpirationTime('1h').sign(pair.privateKey);

const forWeft = (client) => client.clientId !== 'portal';
const provider = new Provider(issuer, {
  clients: [
    { client_id: 'robot', client_secret: 'robot-secret', grant_types: ['client_credentials'], redirect_uris: [], response_types: [] },
    { client_id: 'weft', client_secret: 'weft-secret', grant_types: ['client_credentials'], redirect_uris: [], response_types: [] },
    { client_id: 'portal', client_secret: 'portal-secret', grant_types: ['authorization_code'], redirect_uris: ['http://127.0.0.1:1/cb'] },
  ],
  jwks: { keys: [key] },
  cookies: { keys: ['a key of this test'] },
  pkce: { required: () => true },
  conformIdTokenClaims: false,
  scopes: ['openid', 'ga4gh_passport_v1', 'tes:read', 'tes:write'],
  claims: { openid: ['sub', 'groups'], ga4gh_passport_v1: ['ga4gh_passport_v1'] },
  findAccount: async (_context, id) => ({
    accountId: id,
    claims: async () => ({ sub: id, groups: ['lab'], ga4gh_passport_v1: [await visa(id)] }),
  }),
  extraTokenClaims: async () => ({ groups: ['lab'] }),
  clientBasedCORS: () => false,
  features: {
    devInteractions: { enabled: true },
    clientCredentials: { enabled: true },
    introspection: { enabled: true, allowedPolicy: () => true },
    revocation: { enabled: true, allowedPolicy: () => true },
    resourceIndicators: {
      enabled: true,
      // userinfo refuses tokens that are bound to a resource, so those of the portal are opaque and for nobody.
      defaultResource: (_context, client) => (forWeft(client) ? audience : undefined),
      useGrantedResource: () => true,
      getResourceServerInfo: () => ({
        scope: 'tes:read tes:write', audience, accessTokenTTL: 600, accessTokenFormat: 'jwt', jwt: { sign: { alg: 'RS256' } },
      }),
    },
  },
});
server.on('request', provider.callback());
console.log(`ready ${issuer}`);
