// Puts GraphiQL on the page. Operations go to the address of the page itself, with the credentials of whoever
// signed in to it, and nothing goes anywhere else.
"use strict";

async function send(operation, { headers = {} } = {}) {
  const response = await fetch(window.location.pathname, {
    method: "POST",
    credentials: "same-origin",
    headers: {
      ...headers,
      Accept: "application/graphql-response+json, application/json;q=0.9",
      "Content-Type": "application/json",
    },
    body: JSON.stringify(operation),
  });
  return response.json();
}

const welcome = `# Press the play button or Ctrl-Enter.
# The book on the left holds the schema.

{
  __typename
}
`;

ReactDOM.createRoot(document.getElementById("graphiql")).render(
  React.createElement(GraphiQL, { fetcher: send, defaultQuery: welcome, defaultEditorToolsVisibility: true }),
);
