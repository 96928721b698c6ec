// An OpenID provider on a loopback port: who signs in types the subject that their token has.
//   node provider.js PORT ACCOUNTS.json CALLBACK
// ACCOUNTS.json has the claims of each subject and is read at each sign-in.
import { readFileSync } from 'node:fs';
import Provider from 'oidc-provider';

const [port, accounts, callback] = process.argv.slice(2);

const provider = new Provider(`http://localhost:${port}`, {
  clients: [{ client_id: 'synapse', client_secret: 'synapse-secret', redirect_uris: [callback] }],
  claims: { openid: ['sub'], profile: ['name', 'preferred_username'], email: ['email'] },
  conformIdTokenClaims: false,
  pkce: { required: () => false },
  findAccount: (_, subject) => {
    const claims = JSON.parse(readFileSync(accounts, 'utf8'))[subject];
    return claims && { accountId: subject, claims: () => ({ sub: subject, ...claims }) };
  },
});

provider.listen(Number(port), '127.0.0.1');
