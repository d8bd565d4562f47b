use std::env::var;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = fullon_operate::with_token(&var("FULLON_ADMIN")?, &var("FULLON_TOKEN")?)?;
    println!("{}", client.get_status().send().await?.pid);
    let page = client.get_logs().lines(3).level("info").send().await?;
    page.entries.iter().for_each(|e| println!("{}", e.line));
    println!("{}", client.restart_daemon().send().await?.pid);
    Ok(())
}
