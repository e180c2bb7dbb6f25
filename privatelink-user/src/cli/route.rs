//! `privatelink route` and `privatelink route-table`.

use clap::{Args, Subcommand};

use super::{
    CliError, Session,
    output::{fields, list, or_dash, table},
    value,
};
use crate::{
    control::{
        Reference,
        route_tables::{
            AssociateRouteTable, CreateRoute, CreateRouteTable, DeleteRoute, DeleteRouteTable, DescribeRouteTables,
            DisassociateRouteTable, ReplaceRoute, RouteTargetSpec,
        },
        view::{AssociationView, RouteTableView, RouteView},
    },
    model::RouteDestination,
};

#[derive(Debug, Subcommand)]
pub enum RouteCommand {
    /// Add a route. Doing it again with the same target changes nothing.
    Create(RouteArgs),
    /// Let a route lead elsewhere.
    Replace(RouteArgs),
    /// Take a route away.
    Delete {
        #[command(flatten)]
        which: WhichArgs,
    },
    /// List the routes of all route tables, or of one VPC's.
    List {
        /// Name or id.
        #[arg(long, value_parser = value::reference)]
        vpc: Option<Reference>,
    },
}

#[derive(Debug, Args)]
pub struct WhichArgs {
    /// The addresses that it is for, such as 10.200.0.10/32; a route for an IPv6 range leads to no endpoint.
    #[arg(value_name = "CIDR", value_parser = value::destination)]
    destination: RouteDestination,
    /// The route table: its id, or a VPC for its main one.
    #[arg(long, visible_alias = "vpc", value_name = "TABLE", value_parser = value::reference)]
    route_table: Reference,
}

#[derive(Debug, Args)]
pub struct RouteArgs {
    #[command(flatten)]
    which: WhichArgs,
    #[command(flatten)]
    target: TargetArgs,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct TargetArgs {
    /// The network interface that it leads to; id, or VPC/ADDRESS.
    #[arg(long, value_name = "INTERFACE", value_parser = value::reference)]
    interface: Option<Reference>,
    /// The endpoint that it leads to; id, or VPC/ADDRESS.
    #[arg(long, value_parser = value::reference)]
    endpoint: Option<Reference>,
}

impl TargetArgs {
    /// One of the two is given, says the group.
    fn spec(self) -> RouteTargetSpec {
        match self {
            Self { interface: Some(interface), endpoint: _ } => RouteTargetSpec::NetworkInterface(interface),
            Self { interface: None, endpoint } => RouteTargetSpec::Endpoint(endpoint.unwrap_or_default()),
        }
    }
}

impl RouteCommand {
    pub async fn run(self, session: &mut Session) -> Result<(), CliError> {
        let changed = match self {
            Self::Create(RouteArgs { which: WhichArgs { destination, route_table }, target }) => {
                session.client.call(&CreateRoute { route_table, destination, target: target.spec() }).await?
            }
            Self::Replace(RouteArgs { which: WhichArgs { destination, route_table }, target }) => {
                session.client.call(&ReplaceRoute { route_table, destination, target: target.spec() }).await?
            }
            Self::Delete { which: WhichArgs { destination, route_table } } => {
                session.client.call(&DeleteRoute { route_table, destination }).await?
            }
            Self::List { vpc } => {
                let tables = session.client.call(&DescribeRouteTables { route_tables: None, vpc }).await?;
                return session.output.show(&tables, |tables| routes(tables));
            }
        };
        session.output.show(&changed, |table| routes([table]))
    }
}

#[derive(Debug, Subcommand)]
pub enum RouteTableCommand {
    /// Make a route table, for no subnet yet.
    Create {
        /// The VPC; name or id.
        #[arg(long, value_parser = value::reference)]
        vpc: Reference,
    },
    /// List the route tables, of all VPCs or of one.
    List {
        /// Name or id.
        #[arg(long, value_parser = value::reference)]
        vpc: Option<Reference>,
    },
    /// Show one route table with its routes.
    Describe {
        /// Id, or a VPC for its main one.
        #[arg(value_parser = value::reference)]
        route_table: Reference,
    },
    /// Give a subnet a route table of its own instead of the main one.
    Associate {
        /// Id.
        #[arg(value_parser = value::reference)]
        route_table: Reference,
        /// The subnet; id, or VPC/CIDR.
        #[arg(long, value_parser = value::reference)]
        subnet: Reference,
    },
    /// Give a subnet the main route table again.
    Disassociate {
        /// The subnet's id, or the association's.
        #[arg(value_parser = value::reference)]
        association: Reference,
    },
    /// Delete a route table that no subnet has.
    Delete {
        /// Id.
        #[arg(value_parser = value::reference)]
        route_table: Reference,
        /// Give its subnets the main table first.
        #[arg(long)]
        force: bool,
    },
}

impl RouteTableCommand {
    pub async fn run(self, session: &mut Session) -> Result<(), CliError> {
        match self {
            Self::Create { vpc } => {
                let table = session.client.call(&CreateRouteTable { vpc }).await?;
                session.output.show(&table, |table| rows([table]))
            }
            Self::List { vpc } => {
                let tables = session.client.call(&DescribeRouteTables { route_tables: None, vpc }).await?;
                session.output.show(&tables, |tables| rows(tables))
            }
            Self::Describe { route_table } => {
                let request = DescribeRouteTables { route_tables: Some(vec![route_table]), vpc: None };
                let tables = session.client.call(&request).await?;
                tables.iter().try_for_each(|table| session.output.show(table, describe))
            }
            Self::Associate { route_table, subnet } => {
                let table = session.client.call(&AssociateRouteTable { route_table, subnet }).await?;
                session.output.show(&table, describe)
            }
            Self::Disassociate { association } => {
                session.client.call(&DisassociateRouteTable { association: association.clone() }).await?;
                session.output.done(&format!("disassociated {}", association.as_str()))
            }
            Self::Delete { route_table, force } => {
                session.client.call(&DeleteRouteTable { route_table: route_table.clone(), force }).await?;
                session.output.done(&format!("deleted route table {}", route_table.as_str()))
            }
        }
    }
}

fn route(RouteView { destination, target, state }: &RouteView) -> [String; 3] {
    [destination.to_string(), target.to_string(), state.to_string()]
}

fn routes<'a>(tables: impl IntoIterator<Item = &'a RouteTableView>) -> String {
    let rows = tables.into_iter().flat_map(|found| {
        let local = found.local.map(|cidr| [cidr.to_string(), "local".to_owned(), "active".to_owned()]);
        let all = local.into_iter().chain(found.routes.iter().map(route));
        all.map(|[destination, target, state]| {
            [found.id.to_string(), found.vpc_name.clone(), destination, target, state]
        })
    });
    table(["TABLE", "VPC", "DESTINATION", "TARGET", "STATE"], rows)
}

fn subnets(table: &RouteTableView) -> String {
    let named = |AssociationView { id: _, subnet }: &AssociationView| {
        subnet.as_ref().map_or_else(|| "all others".to_owned(), ToString::to_string)
    };
    list(table.associations.iter().map(named))
}

fn rows<'a>(tables: impl IntoIterator<Item = &'a RouteTableView>) -> String {
    table(
        ["ID", "VPC", "SUBNETS", "ROUTES"],
        tables.into_iter().map(|table| {
            [
                table.id.to_string(),
                table.vpc_name.clone(),
                subnets(table),
                table.routes.len().saturating_add(1).to_string(),
            ]
        }),
    )
}

fn describe(table: &RouteTableView) -> String {
    let RouteTableView { id, vpc: _, vpc_name, main, local, routes: found, associations: _, created_at } = table;
    let lines = found.iter().map(|one| route(one).join(" "));
    fields([
        ("ID", id.to_string()),
        ("VPC", vpc_name.clone()),
        ("Main", main.to_string()),
        ("Subnets", subnets(table)),
        ("Local", or_dash(*local)),
        ("Routes", list(lines)),
        ("Created", created_at.to_string()),
    ])
}
