// Package notify tells people and programs of what happens: by webhooks with CloudEvents, by Slack's incoming
// webhooks, and by e-mail.
//
// What happened is an event in the store, committed with the change of state that it is about. Each event is led once
// to the outbox, an object for each receiver that wants it, in the same commit as the cursor moves on behind it. From
// there it is sent until the receiver took it, at least once, by whatever process is alive; what could not be
// sent for a day is given up, and stays for a week to be seen.
package notify
