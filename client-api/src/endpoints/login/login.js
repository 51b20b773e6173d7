const form = document.forms[0];
const note = form.querySelector("[role=alert]");
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  note.textContent = "";
  const request = {
    type: "m.login.password",
    identifier: { type: "m.id.user", user: form.elements.user.value },
    password: form.elements.password.value,
  };
  const given = new URLSearchParams(location.search);
  for (const field of ["device_id", "initial_device_display_name"]) {
    if (given.has(field)) request[field] = given.get(field);
  }
  if (given.get("refresh_token") === "true") request.refresh_token = true;
  try {
    const answer = await fetch("/_matrix/client/v3/login", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(request),
    });
    const response = await answer.json();
    if (!answer.ok) throw new Error(response.error);
    form.replaceWith("You are logged in. You can close this page now.");
    if (window.matrixLogin && window.matrixLogin.onLogin) window.matrixLogin.onLogin(response);
  } catch (error) {
    note.textContent = error.message;
  }
});
